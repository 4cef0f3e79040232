/*
 * viewer: the frame, the slider under it, and the tiles of a run with several pictures.
 *
 * Three states: empty (noise), live (previews arrive; the slider shows how far it is), and done (the reader scrubs).
 * Positions on the slider are the steps s = 0 … S−1, noisiest first, and then S: the finished picture. What else
 * depends on the position (the marks over the picture, the film, the source) is told through `shown`.
 */
import { byId, calm, el, number, paint, percent } from "./dom.js";
import { decode, drawNoise } from "./frames.js";

const AHEAD = 24; /* steps loaded in advance on either side */
const PLAY_MS = 2600; /* for a whole run */
const CALM_MS = 1000; /* between previews for readers who asked for less motion */
const WHOLE_BELOW = 6; /* device pixels per pixel from which one more or less goes unnoticed */

/* Where a job serves a step of a picture; behind the last step comes the picture itself. */
export function frameUrl(job, { image, step, of }) {
  const base = `/v1/jobs/${job.id}/images/${image}`;
  return step >= job.result.steps.length ? base : `${base}/steps/${step}${of === "xt" ? "?of=xt" : ""}`;
}

export function kept(job, output) {
  return job?.params.outputs?.includes(output) ?? false;
}

export class Viewer {
  #frames;
  #on;
  #canvas = byId("picture");
  #slider = byId("step");
  #play = byId("play");
  #wanted = 0; /* serial of the newest drawing request; older ones arrive too late */
  #drawn = 0; /* when the last preview was */
  #timer = 0;
  #job = null; /* the finished job's document, or null */
  #place = { image: 0, step: 0, of: "x0" };

  /* on.moved(place): the reader looks at something else. on.shown(job, place): that is on screen.
   * on.arrived({ image, step, t, bitmap }): a preview came. on.sized(): the picture has changed its size. */
  constructor(frames, on) {
    this.#frames = frames;
    this.#on = on;
    this.#slider.addEventListener("input", () => this.go({ step: Number(this.#slider.value) }));
    this.#play.addEventListener("click", () => (this.#timer ? this.pause() : this.play()));
    for (const of of ["x0", "xt"])
      byId(`of-${of}`).addEventListener("click", () => this.go({ of }, true));
    document.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#fit()).observe(byId("frame"));
  }

  get place() {
    return { ...this.#place };
  }

  empty(shape) {
    this.#reset(1);
    byId("frame").classList.add("is-empty");
    byId("empty").hidden = false;
    this.#canvas.setAttribute("aria-label", "Noise: nothing has been made yet");
    drawNoise(this.#canvas, shape);
    this.#fit();
  }

  /* A run of `count` pictures begins; until a preview comes the frame keeps what it shows. */
  live(count, seed) {
    this.#reset(count, seed);
    delete this.#canvas.dataset.frame;
    byId("empty").hidden = true;
    byId("bar").hidden = false;
  }

  progress(step, steps) {
    byId("bar").max = this.#slider.max = steps || 1;
    byId("bar").value = this.#slider.value = step;
  }

  async preview({ image, step, t, png_base64 }) {
    const serial = this.#wanted;
    const bitmap = await decode(png_base64);
    if (serial !== this.#wanted)
      return; /* the run is over, or another one has begun */
    const tile = byId("tiles").querySelectorAll("canvas")[image];
    if (tile)
      paint(tile, bitmap);
    if (image !== this.#place.image || (calm.matches && performance.now() < this.#drawn + CALM_MS))
      return;
    this.#drawn = performance.now();
    this.#canvas.setAttribute("aria-label", `Picture ${image + 1}, being denoised`);
    this.#paint(bitmap);
    this.#on.arrived({ image, step, t, bitmap });
  }

  /* The run is finished: the reader may scrub. `place` says where to look; without it, at the end. */
  done(job, place) {
    const { images, steps } = job.result;
    if (byId("tiles").children.length !== (images.length > 1 ? images.length : 0) || this.#job)
      this.#reset(images.length, job.params.seed);
    this.#job = job;
    byId("bar").hidden = true;
    byId("empty").hidden = true;
    byId("tiles").querySelectorAll("canvas").forEach((tile, image) =>
      this.#frames.get(frameUrl(job, { image, step: steps.length })).then((bitmap) => paint(tile, bitmap), () => {}));
    const scrubs = kept(job, "x0") || kept(job, "xt");
    this.#slider.max = steps.length;
    this.#slider.disabled = this.#play.disabled = !scrubs;
    byId("of-x0").disabled = !kept(job, "x0");
    byId("of-xt").disabled = !kept(job, "xt");
    const image = Math.min(place?.image ?? this.#place.image, images.length - 1);
    const step = Math.min((scrubs ? place?.step : null) ?? steps.length, steps.length);
    const noisy = kept(job, "xt") && (place?.of === "xt" || !kept(job, "x0"));
    this.#place = { image, step, of: noisy ? "xt" : "x0" };
    this.#show();
  }

  /* A run ended without pictures, or was given up. */
  stop() {
    this.pause();
    byId("bar").hidden = true;
  }

  play() {
    const total = this.#job.result.steps.length;
    if (this.#place.step >= total)
      this.go({ step: 0 });
    this.#play.setAttribute("aria-pressed", "true");
    this.#play.setAttribute("aria-label", "Pause");
    const pause = Math.min(220, Math.max(50, PLAY_MS / total));
    const stride = Math.max(1, Math.round((total * pause) / (PLAY_MS * 4))); /* thousands of steps: skip some */
    this.#timer = setInterval(() => {
      const step = Math.min(total, this.#place.step + stride);
      this.go({ step }, true);
      if (step === total)
        this.pause();
    }, pause);
  }

  pause() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#play.setAttribute("aria-pressed", "false");
    this.#play.setAttribute("aria-label", "Play");
  }

  /* Looks elsewhere: `change` holds any of image, step, of. */
  go(change, keepPlaying = false) {
    if (!keepPlaying)
      this.pause();
    this.#place = { ...this.#place, ...change };
    this.#current();
    if (this.#job)
      this.#show();
    this.#on.moved(this.place);
  }

  #reset(count, seed = 0) {
    this.pause();
    this.#wanted++;
    this.#job = null;
    this.#place = { image: 0, step: 0, of: "x0" };
    byId("bar").removeAttribute("value");
    for (const control of [this.#slider, this.#play, byId("of-x0"), byId("of-xt")])
      control.disabled = true;
    this.#slider.value = 0;
    const tiles = byId("tiles");
    tiles.hidden = count < 2;
    tiles.replaceChildren(...(count < 2 ? [] : Array.from({ length: count }, (_, i) => this.#tile(i, seed + i))));
    this.#current();
  }

  #tile(image, seed) {
    const tile = el("button", { type: "button", title: `Seed ${seed}`, "aria-label": `Picture ${image + 1}, seed ${seed}` },
      el("canvas", { width: 1, height: 1 }));
    tile.addEventListener("click", () => this.go({ image }, true));
    return tile;
  }

  #current() {
    for (const [i, tile] of [...byId("tiles").children].entries())
      tile.setAttribute("aria-current", String(i === this.#place.image));
  }

  /* Draws the place and says it in words. */
  #show() {
    const { image, step, of } = this.#place;
    const { steps, images } = this.#job.result;
    const at = steps[step];
    this.#slider.value = step;
    this.#slider.setAttribute("aria-valuetext",
      at ? `Step ${step + 1} of ${steps.length}, t ${number(at.t)}` : "The finished picture");
    for (const each of ["x0", "xt"])
      byId(`of-${each}`).setAttribute("aria-pressed", String(each === of));
    this.#current();
    byId("words").textContent = at ? words(at, step, steps.length, of)
      : kept(this.#job, "final_mosaic") || kept(this.#job, "mosaic")
        ? "The finished picture. Point at any pixel to see the patch that it came from, or drag the slider back."
        : "The finished picture. Drag the slider back to see how it came about.";
    const what = !at ? "finished" : `${of === "xt" ? "noisy picture" : "guess"} at step ${step + 1} of ${steps.length}`;
    this.#canvas.setAttribute("aria-label", `Picture ${image + 1} of ${images.length}, ${what}`);
    this.#draw();
    this.#prefetch();
    this.#on.shown(this.#job, this.place);
  }

  async #draw() {
    const serial = ++this.#wanted;
    const path = frameUrl(this.#job, this.#place);
    let bitmap = null;
    try {
      bitmap = await this.#frames.get(path);
    } catch {
      if (serial === this.#wanted)
        byId("words").textContent = "This step could not be loaded. The run may no longer be kept.";
    }
    if (bitmap && serial === this.#wanted) {
      this.#paint(bitmap);
      this.#canvas.dataset.frame = path;
    }
  }

  #paint(bitmap) {
    const { width, height } = this.#canvas;
    byId("frame").classList.remove("is-empty");
    paint(this.#canvas, bitmap);
    if (width !== bitmap.width || height !== bitmap.height)
      this.#fit();
  }

  #prefetch() {
    const { step } = this.#place;
    const total = this.#job.result.steps.length;
    for (let s = Math.max(0, step - AHEAD); s <= Math.min(total, step + AHEAD); s++)
      this.#frames.get(frameUrl(this.#job, { ...this.#place, step: s })).catch(() => {});
  }

  /* As large as the frame allows. Small magnifications are whole, or neighbouring pixels would differ visibly in size. */
  #fit() {
    const { width, height } = this.#canvas;
    const ratio = devicePixelRatio || 1;
    const room = Math.min(byId("frame").clientWidth / width, byId("frame").clientHeight / height) * ratio;
    const scale = (room >= 1 && room < WHOLE_BELOW ? Math.floor(room) : room) / ratio;
    for (const layer of byId("frame").querySelectorAll(".layer")) {
      layer.style.width = `${width * scale}px`;
      layer.style.height = `${height * scale}px`;
    }
    this.#on.sized(width, height);
  }

  #key(event) {
    if (this.#slider.disabled || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey
        || event.shiftKey || event.target.closest("input, select, textarea, summary, dialog"))
      return;
    const step = { ArrowLeft: this.#place.step - 1, ArrowRight: this.#place.step + 1 }[event.key];
    if (step === undefined)
      return;
    event.preventDefault();
    this.go({ step: Math.min(this.#job.result.steps.length, Math.max(0, step)) });
  }
}

function words(at, step, total, of) {
  const place = `Step ${step + 1} of ${total}. `;
  if (of === "xt")
    return `${place}What the machine sees: about ${percent(at.alpha_bar)} picture, the rest noise.`;
  return place + (at.p
    ? `The machine’s guess of the clean picture: each pixel is decided from the ${at.p}×${at.p} window around it.`
    : "The machine’s guess of the clean picture: each pixel is decided from the whole.");
}
