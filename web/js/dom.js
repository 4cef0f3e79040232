/*
 * dom: the few words that every part of the page uses to reach its elements and to phrase numbers.
 */

export const byId = (id) => document.getElementById(id);

export const calm = matchMedia("(prefers-reduced-motion: reduce)");

/* el("p", { className: "note" }, "text", child): an element with its properties; `aria-…` and `role` become attributes. */
export function el(name, props = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key.includes("-") || key === "role")
      element.setAttribute(key, value);
    else
      element[key] = value;
  }
  element.append(...children);
  return element;
}

export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value))
    return "–";
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3);
}

export function count(value, one, many = `${one}s`) {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

export function percent(share) {
  const value = 100 * share;
  return `${value > 0 && value < 1 ? "<\u202f1" : value > 99 && value < 100 ? value.toFixed(1) : Math.round(value)}\u00a0%`;
}

export function seconds(value) {
  if (value < 1)
    return "under 1\u00a0s";
  return value < 90 ? `${Math.round(value)}\u00a0s` : `${Math.round(value / 60)}\u00a0min`;
}

/* Draws a bitmap as it is into a canvas that takes its size. */
export function paint(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}
