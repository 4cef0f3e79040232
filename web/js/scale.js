/*
 * scale: the window P that a running job uses at a time t, before its result says so: nearest t, ties to the larger one.
 */

/* Whether the machine's patches go on at the other side of the picture. */
export function wraps({ machine, candidates }) {
  return machine === "es" || (machine === "els" && candidates !== "valid");
}

/* The window of a job with these parameters at t: null when the machine looks at whole pictures; undefined when the scales
 * have a name that the server has not told. */
export function scaleAt({ machine, scales }, t, { machines, presets }) {
  if (!machines.find(({ name }) => name === machine)?.uses_p)
    return null;
  if (/^\d+$/.test(scales))
    return Number(scales);
  const table = typeof scales === "string" ? presets.find(({ name }) => name === scales) : scales;
  const p = Array.isArray(table) ? table : table?.p;
  const times = table?.t ?? p?.map((_, i) => i / p.length) ?? [];
  const nearest = times.reduce((best, each, i) => {
    const nearer = Math.abs(each - t) - Math.abs(times[best] - t);
    return nearer < -1e-9 || (nearer < 1e-9 && each > times[best]) ? i : best;
  }, 0);
  return p?.[nearest];
}
