/*
 * plot: one small curve over the columns of the film, as SVG that stretches to its place.
 */

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;
const MARGIN = 4;

export function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes))
    element.setAttribute(key, value);
  return element;
}

/* Draws curves over `columns` columns: each is { values, name }, values[i] at the middle of column i; all share one scale.
 * `from` is where the scale begins; with `log` it is logarithmic; with `stairs` a value holds for its whole column. The
 * first curve is filled. */
export function plot(svg, curves, columns, { from = 0, log = false, stairs = false } = {}) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${columns} ${HEIGHT}`);
  const drawable = curves.filter(({ values }) => values?.length && values.every(Number.isFinite));
  const scale = log ? (value) => Math.log(Math.max(value, 1)) : (value) => value;
  const low = scale(from);
  const high = Math.max(low + 1e-9, ...drawable.flatMap(({ values }) => values.map(scale)));
  const y = (value) => (HEIGHT - MARGIN - ((scale(value) - low) / (high - low)) * (HEIGHT - 2 * MARGIN)).toFixed(2);
  drawable.forEach(({ values, name = "" }, k) => {
    const points = stairs
      ? values.flatMap((value, i) => [`${i},${y(value)}`, `${i + 1},${y(value)}`])
      : values.map((value, i) => `${i + 0.5},${y(value)}`);
    const ends = stairs ? [0, values.length] : [0.5, values.length - 0.5];
    if (k === 0)
      svg.append(shape("path", { class: "area", d: `M${ends[0]},${HEIGHT} L${points.join(" ")} L${ends[1]},${HEIGHT}Z` }));
    svg.append(shape("polyline", { class: `curve ${name}`, points: points.join(" "), "vector-effect": "non-scaling-stroke" }));
  });
}
