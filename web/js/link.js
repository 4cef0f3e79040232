/*
 * link: everything on screen as an address that can be shared, behind the ?.
 *
 * Settings carry the API's field names and are left out when they equal the server's defaults; the place adds
 * job, image, step and of. An address that cannot be read is an empty one.
 */

const NUMBERS = ["label", "num_images", "seed", "num_inference_steps", "max_samples"];
const PLACE = ["job", "image", "step", "of"];

/* The seed is always written: without it the address would not name one picture. */
export function write(settings, defaults, place) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(settings))
    if (value !== null && value !== "" && (name === "seed" || value !== defaults[name]))
      query.set(name, value);
  if (place?.job)
    for (const name of PLACE)
      if (place[name] !== null && place[name] !== undefined)
        query.set(name, place[name]);
  return "?" + query.toString();
}

/* { settings, place }: settings holds only what the address names; place is null without a job. */
export function read(search) {
  const query = new URLSearchParams(search);
  const settings = {};
  for (const [name, text] of query) {
    if (PLACE.includes(name))
      continue;
    const number = NUMBERS.includes(name) || (name === "scales" && /^\d+$/.test(text));
    if (!number)
      settings[name] = text;
    else if (/^\d{1,16}$/.test(text))
      settings[name] = Number(text);
  }
  const count = (name) => (/^\d{1,5}$/.test(query.get(name) ?? "") ? Number(query.get(name)) : null);
  const job = query.get("job");
  const place = job && /^[\w-]{1,64}$/.test(job)
    ? { job, image: count("image") ?? 0, step: count("step"), of: query.get("of") === "xt" ? "xt" : "x0" }
    : null;
  return { settings, place };
}
