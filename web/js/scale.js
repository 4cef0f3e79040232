/*
 * scale: the window P that a running job uses at a time t, before its result says so: nearest t, ties to the larger one.
 */

/* { p, wrapped } of a job's parameters at t: p is null when the machine looks at whole pictures. Null when the scales have
 * a name that the server has not told. */
export function windowAt({ machine, candidates, scales }, t, { machines, presets }) {
  const wrapped = machine === "els" && candidates !== "valid";
  if (!machines.find(({ name }) => name === machine)?.uses_p)
    return { p: null, wrapped };
  if (/^\d+$/.test(scales))
    return { p: Number(scales), wrapped };
  const table = typeof scales === "string" ? presets.find(({ name }) => name === scales) : scales;
  const p = Array.isArray(table) ? table : table?.p;
  if (!p)
    return null;
  const times = table.t ?? p.map((_, i) => i / p.length);
  const nearest = times.reduce((best, each, i) => {
    const nearer = Math.abs(each - t) - Math.abs(times[best] - t);
    return nearer < -1e-9 || (nearer < 1e-9 && each > times[best]) ? i : best;
  }, 0);
  return { p: p[nearest], wrapped };
}
