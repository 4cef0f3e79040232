/*
 * link: everything on screen as an address that can be shared, behind the ?.
 *
 * Settings carry the API's field names and are left out when they equal the server's defaults. The place adds what is
 * looked at: job, image, step and of; a comparison: its kind, its jobs (`with`) and what was left out; and the stop
 * of the tour. An address that cannot be read is an empty one.
 */

const NUMBERS = ["label", "num_images", "seed", "num_inference_steps", "max_samples", "exclude_class"];
const PLACE = ["job", "image", "step", "of", "compare", "with", "left", "tour"];

/* The seed is always written: without it the address would not name one picture. */
export function write(settings, defaults, place) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(settings))
    if (value !== null && value !== "" && (name === "seed" || value !== defaults[name]))
      query.set(name, value);
  for (const name of PLACE)
    if (place[name] !== null && place[name] !== undefined)
      query.set(name, place[name]);
  return "?" + query.toString();
}

/* { settings, place, comparison, tour }: settings holds only what the address names; place is null without a job,
 * comparison without jobs to compare, tour outside it. */
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
  const matching = (name, pattern) => (pattern.test(query.get(name) ?? "") ? query.get(name) : null);
  const count = (name) => (matching(name, /^\d{1,5}$/) === null ? null : Number(query.get(name)));
  const job = matching("job", /^[\w-]{1,64}$/);
  const jobs = matching("with", /^[\w-]{1,64}(\.[\w-]{1,64}){0,7}$/);
  return {
    settings,
    place: job && { job, image: count("image") ?? 0, step: count("step"), of: query.get("of") === "xt" ? "xt" : "x0" },
    comparison: jobs && { compare: query.get("compare"), with: jobs, left: matching("left", /^[pc]\d{1,9}$/) },
    tour: count("tour"),
  };
}
