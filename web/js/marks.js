/*
 * marks: what is drawn over a picture: the window that a pixel looks through, the pixel itself, and the pieces of the
 * mosaic. Also keeps the pixel in question: the one under the pointer, else the one that was clicked or tapped, or moved
 * to with the arrow keys.
 */
import { byId, calm } from "./dom.js";
import { shape } from "./plot.js";

/* The stretches [start, length] of 0 … size−1 that a window of side p around `at` covers: clipped at the border, or going
 * on at the other side. */
function stretches(at, p, size, wrapped) {
  const from = at - (p >> 1);
  if (!wrapped || p >= size) {
    const start = Math.max(0, from);
    return [[start, Math.min(size, from + p) - start]];
  }
  const start = (from + size) % size;
  return start + p <= size ? [[start, p]] : [[start, size - start], [0, start + p - size]];
}

/* The rectangles of a window around a pixel; p = null is the whole picture. */
export function windowOf({ y, x }, p, [H, W], wrapped) {
  if (!p)
    return [[0, 0, W, H]];
  return stretches(y, p, H, wrapped).flatMap(([top, height]) =>
    stretches(x, p, W, wrapped).map(([left, width]) => [left, top, width, height]));
}

const pathOf = (rectangles) => rectangles.map(([x, y, w, h]) => `M${x},${y}h${w}v${h}h${-w}z`).join("");

/* Draws a window and the pixel in its middle into `svg`; with `veil` what is outside goes dim. */
export function drawWindow(svg, pixel, p, [H, W], { wrapped = false, veil = false } = {}) {
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  const outline = pathOf(windowOf(pixel, p, [H, W], wrapped));
  const lines = (d, name) => ["casing", name].map((each) =>
    shape("path", { class: each, d, "vector-effect": "non-scaling-stroke" }));
  svg.replaceChildren(
    ...(veil ? [shape("path", { class: "veil", d: `M0,0h${W}v${H}h${-W}z${outline}`, "fill-rule": "evenodd" })] : []),
    ...lines(outline, "window"), ...(p === 1 || p === 3 ? [] : lines(pathOf([[pixel.x, pixel.y, 1, 1]]), "pixel")));
}

/* Colours that lie apart, one for every training picture, all equally light. */
function colourOf(image) {
  return `oklch(0.72 0.14 ${Math.round((image * 137.508) % 360)})`;
}

export class Marks {
  #svg = byId("marks");
  #map = byId("map");
  #size = [32, 32]; /* H, W */
  #pinned = null;
  #pixel = null;
  #window = null; /* { p, wrapped } or null: none is known */
  #onpixel;

  /* onpixel({ y, x }) is called when another pixel is in question. */
  constructor(onpixel) {
    this.#onpixel = onpixel;
    const frame = byId("frame");
    frame.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse")
        this.#to(this.#under(event) ?? this.#pinned);
    });
    frame.addEventListener("pointerleave", () => this.#to(this.#pinned));
    frame.addEventListener("click", (event) => {
      if (event.target.closest("button"))
        return;
      this.#pinned = this.#under(event) ?? this.#pinned;
      this.#to(this.#pinned);
      if (event.pointerType !== "mouse" && byId("origin").getBoundingClientRect().bottom > innerHeight)
        frame.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" }); /* the source comes into view below */
    });
    frame.addEventListener("keydown", (event) => this.#key(event));
    byId("show-window").addEventListener("click", ({ currentTarget: button }) => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      this.#draw();
    });
    byId("show-pieces").addEventListener("click", () => this.pieces(this.#map.hidden));
  }

  get pixel() {
    const [H, W] = this.#size;
    return this.#pixel ?? { y: H >> 1, x: W >> 1 };
  }

  sized(W, H) {
    if (this.#size[0] !== H || this.#size[1] !== W) {
      this.#size = [H, W];
      this.#pinned = this.#pixel = null;
    }
    this.#draw();
  }

  /* The pixel that is in question when no other is. */
  pin(pixel) {
    this.#pinned = pixel;
    this.#to(pixel);
  }

  window(window) {
    this.#window = window;
    this.#draw();
  }

  /* The mosaic that the pieces are of, or null. */
  mosaic(mosaic) {
    byId("show-pieces").disabled = !mosaic;
    if (!mosaic) {
      this.pieces(false);
      return;
    }
    const { H, W } = mosaic;
    const context = Object.assign(this.#map, { width: W, height: H }).getContext("2d");
    for (let y = 0; y < H; y++)
      for (let x = 0; x < W; x++)
        if (mosaic.decided(y, x)) {
          const [{ image, weight }] = mosaic.top(y, x);
          context.globalAlpha = 0.35 + 0.65 * weight;
          context.fillStyle = colourOf(image);
          context.fillRect(x, y, 1, 1);
        }
  }

  pieces(shown) {
    this.#map.hidden = !shown;
    byId("show-pieces").setAttribute("aria-pressed", String(shown));
  }

  #under(event) {
    const [H, W] = this.#size;
    const { left, top, width, height } = byId("picture").getBoundingClientRect();
    const x = Math.floor(((event.clientX - left) / width) * W);
    const y = Math.floor(((event.clientY - top) / height) * H);
    return x >= 0 && y >= 0 && x < W && y < H ? { y, x } : null;
  }

  #to(pixel) {
    if (pixel?.y === this.#pixel?.y && pixel?.x === this.#pixel?.x)
      return;
    this.#pixel = pixel;
    this.#draw();
    this.#onpixel(this.pixel);
  }

  #draw() {
    const shown = this.#window && byId("show-window").getAttribute("aria-pressed") === "true";
    if (shown)
      drawWindow(this.#svg, this.pixel, this.#window.p, this.#size, this.#window);
    else
      this.#svg.replaceChildren();
  }

  #key(event) {
    const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
    if (dy === undefined || event.altKey || event.ctrlKey || event.metaKey)
      return;
    event.preventDefault();
    const [H, W] = this.#size;
    const { y, x } = this.pixel;
    this.pin({ y: Math.min(H - 1, Math.max(0, y + dy)), x: Math.min(W - 1, Math.max(0, x + dx)) });
  }
}
