/*
 * viewer: the frame, the slider under it, the numbers of a step, and the tiles of a run with several pictures.
 *
 * Three states: empty (noise), live (previews arrive; the slider shows how far it is), and done (the reader scrubs).
 * Positions on the slider are the steps s = 0 … S−1, noisiest first, and then S: the finished picture.
 */
import { Frames, drawNoise } from "./frames.js";

const byId = (id) => document.getElementById(id);
const AHEAD = 24; /* steps loaded in advance on either side */
const PLAY_MS = 2600; /* for a whole run */
const CALM_MS = 1000; /* between previews for readers who asked for less motion */
const WHOLE_BELOW = 6; /* device pixels per pixel from which one more or less goes unnoticed */

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Viewer {
  #frames = new Frames();
  #canvas = byId("picture");
  #slider = byId("step");
  #play = byId("play");
  #wanted = 0; /* serial of the newest drawing request; older ones arrive too late */
  #drawn = 0; /* when the last preview was */
  #timer = 0;
  #job = null; /* the finished job's document, or null */
  #place = { image: 0, step: 0, of: "x0" };
  #onmove;

  /* onmove(place) is called when the reader looks at something else. */
  constructor(onmove) {
    this.#onmove = onmove;
    this.#slider.addEventListener("input", () => this.#go({ step: Number(this.#slider.value) }));
    this.#play.addEventListener("click", () => (this.#timer ? this.pause() : this.#start()));
    for (const of of ["x0", "xt"])
      byId(`of-${of}`).addEventListener("click", () => this.#go({ of }, true));
    document.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#fit()).observe(byId("frame"));
  }

  get place() {
    return { ...this.#place };
  }

  empty(shape) {
    this.#reset(1, false);
    byId("frame").classList.add("is-empty");
    byId("empty").hidden = false;
    this.#canvas.setAttribute("aria-label", "Noise: nothing has been made yet");
    drawNoise(this.#canvas, shape);
    this.#fit();
  }

  /* A run of `count` pictures begins; until a preview comes the frame keeps what it shows. */
  live(count, seed) {
    this.#reset(count, true, seed);
    byId("empty").hidden = true;
    byId("bar").hidden = false;
  }

  progress(step, steps) {
    byId("bar").max = this.#slider.max = steps || 1;
    byId("bar").value = this.#slider.value = step;
    byId("r-step").textContent = `${step} / ${steps}`;
  }

  preview({ image, t, png_base64 }) {
    const url = `data:image/png;base64,${png_base64}`;
    const tile = byId("tiles").querySelectorAll("img")[image];
    if (tile)
      tile.src = url;
    if (image !== this.#place.image || (calm.matches && performance.now() < this.#drawn + CALM_MS))
      return;
    this.#drawn = performance.now();
    byId("r-t").textContent = number(t);
    this.#canvas.setAttribute("aria-label", `Picture ${image + 1}, being denoised`);
    this.#draw(url);
  }

  /* The run is finished: the reader may scrub. `place` says where to look; without it, at the end. */
  done(job, place) {
    const { images, steps } = job.result;
    if (byId("tiles").querySelectorAll("img").length !== (images.length > 1 ? images.length : 0) || this.#job)
      this.#reset(images.length, false, job.params.seed);
    this.#job = job;
    byId("bar").hidden = true;
    byId("empty").hidden = true;
    byId("tiles").querySelectorAll("img").forEach((tile, i) => { tile.src = this.#url(i, steps.length, "x0"); });
    const scrubs = this.#has("x0") || this.#has("xt");
    this.#slider.max = steps.length;
    this.#slider.disabled = this.#play.disabled = !scrubs;
    byId("of-x0").disabled = !this.#has("x0");
    byId("of-xt").disabled = !this.#has("xt");
    const image = Math.min(place?.image ?? this.#place.image, images.length - 1);
    const step = Math.min((scrubs ? place?.step : null) ?? steps.length, steps.length);
    const noisy = this.#has("xt") && (place?.of === "xt" || !this.#has("x0"));
    this.#place = { image, step, of: noisy ? "xt" : "x0" };
    this.#show();
  }

  /* A run ended without pictures, or was given up. */
  stop() {
    this.pause();
    byId("bar").hidden = true;
  }

  pause() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#play.setAttribute("aria-pressed", "false");
    this.#play.setAttribute("aria-label", "Play");
  }

  #reset(count, keep, seed = 0) {
    this.pause();
    this.#wanted++;
    this.#frames.clear();
    this.#job = null;
    this.#place = { image: 0, step: 0, of: "x0" };
    byId("frame").classList.toggle("is-empty", keep && byId("frame").classList.contains("is-empty"));
    byId("bar").removeAttribute("value");
    for (const control of [this.#slider, this.#play, byId("of-x0"), byId("of-xt")])
      control.disabled = true;
    for (const id of ["r-step", "r-t", "r-p", "r-alpha"])
      byId(id).textContent = "–";
    this.#slider.value = 0;
    const tiles = byId("tiles");
    tiles.hidden = count < 2;
    tiles.replaceChildren(...(count < 2 ? [] : Array.from({ length: count }, (_, i) => this.#tile(i, seed + i))));
  }

  #tile(image, seed) {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.title = `Seed ${seed}`;
    tile.setAttribute("aria-current", String(image === 0));
    const picture = Object.assign(new Image(), { alt: `Picture ${image + 1}, seed ${seed}` });
    picture.src = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
    tile.append(picture);
    tile.addEventListener("click", () => this.#go({ image }, true));
    return tile;
  }

  #has(output) {
    return this.#job?.params.outputs?.includes(output) ?? false;
  }

  #url(image, step, of) {
    const base = `/v1/jobs/${this.#job.id}/images/${image}`;
    if (step >= this.#job.result.steps.length)
      return base;
    return `${base}/steps/${step}?zoom=1${of === "xt" ? "&of=xt" : ""}`;
  }

  #go(change, keepPlaying = false) {
    if (!keepPlaying)
      this.pause();
    this.#place = { ...this.#place, ...change };
    for (const [i, tile] of [...byId("tiles").children].entries())
      tile.setAttribute("aria-current", String(i === this.#place.image));
    if (this.#job)
      this.#show();
    this.#onmove(this.place);
  }

  /* Draws the place and says it in numbers and words. */
  #show() {
    const { image, step, of } = this.#place;
    const { steps, images } = this.#job.result;
    const at = steps[step];
    const total = steps.length;
    this.#slider.value = step;
    this.#slider.setAttribute("aria-valuetext",
      at ? `Step ${step + 1} of ${total}, t ${number(at.t)}` : "The finished picture");
    for (const each of ["x0", "xt"])
      byId(`of-${each}`).setAttribute("aria-pressed", String(each === of));
    for (const [i, tile] of [...byId("tiles").children].entries())
      tile.setAttribute("aria-current", String(i === image));
    byId("r-step").textContent = at ? `${step + 1} / ${total}` : "end";
    byId("r-t").textContent = at ? number(at.t) : "0";
    byId("r-p").textContent = at ? (at.p ? `${at.p}×${at.p}` : "all") : "–";
    byId("r-alpha").textContent = at ? number(at.alpha_bar) : "–";
    byId("words").textContent = this.#words(at, of);
    const what = !at ? "finished" : `${of === "xt" ? "noisy picture" : "guess"} at step ${step + 1} of ${total}`;
    this.#canvas.setAttribute("aria-label", `Picture ${image + 1} of ${images.length}, ${what}`);
    this.#draw(this.#url(image, step, of));
    this.#prefetch();
  }

  #words(at, of) {
    if (!at)
      return "The finished picture. Drag the slider back to see how it came about.";
    if (of === "xt")
      return `What the machine sees: about ${Math.round(100 * at.alpha_bar)} % picture, the rest noise.`;
    return at.p
      ? `The machine’s guess of the clean picture. Each pixel was decided from the ${at.p}×${at.p} window around it.`
      : "The machine’s guess of the clean picture. Each pixel was decided from the whole picture.";
  }

  async #draw(url) {
    const serial = ++this.#wanted;
    let image;
    try {
      image = await this.#frames.get(url);
    } catch {
      if (serial === this.#wanted)
        byId("words").textContent = "This step could not be loaded. The run may no longer be kept.";
      return;
    }
    if (serial !== this.#wanted)
      return;
    byId("frame").classList.remove("is-empty");
    if (this.#canvas.width !== image.naturalWidth || this.#canvas.height !== image.naturalHeight) {
      this.#canvas.width = image.naturalWidth;
      this.#canvas.height = image.naturalHeight;
      this.#fit();
    }
    this.#canvas.getContext("2d").drawImage(image, 0, 0);
  }

  #prefetch() {
    const { image, step, of } = this.#place;
    const total = this.#job.result.steps.length;
    for (let s = Math.max(0, step - AHEAD); s <= Math.min(total, step + AHEAD); s++)
      this.#frames.get(this.#url(image, s, of)).catch(() => {});
  }

  /* As large as the frame allows. Small magnifications are whole, or neighbouring pixels would differ visibly in size. */
  #fit() {
    const { width, height } = this.#canvas;
    const ratio = devicePixelRatio || 1;
    const room = Math.min(byId("frame").clientWidth / width, byId("frame").clientHeight / height) * ratio;
    const scale = (room >= 1 && room < WHOLE_BELOW ? Math.floor(room) : room) / ratio;
    this.#canvas.style.width = `${width * scale}px`;
    this.#canvas.style.height = `${height * scale}px`;
  }

  #start() {
    const total = this.#job.result.steps.length;
    if (this.#place.step >= total)
      this.#go({ step: 0 });
    this.#play.setAttribute("aria-pressed", "true");
    this.#play.setAttribute("aria-label", "Pause");
    const pause = Math.min(220, Math.max(50, PLAY_MS / total));
    const stride = Math.max(1, Math.round((total * pause) / (PLAY_MS * 4))); /* thousands of steps: skip some */
    this.#timer = setInterval(() => {
      const step = Math.min(total, this.#place.step + stride);
      this.#go({ step }, true);
      if (step === total)
        this.pause();
    }, pause);
  }

  #key(event) {
    if (this.#slider.disabled || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey
        || event.target.closest("input, select, textarea, summary"))
      return;
    const total = this.#job.result.steps.length;
    const step = { ArrowLeft: this.#place.step - 1, ArrowRight: this.#place.step + 1 }[event.key];
    if (step === undefined)
      return;
    event.preventDefault();
    this.#go({ step: Math.min(total, Math.max(0, step)) });
  }
}

function number(value) {
  if (typeof value !== "number")
    return "–";
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3);
}
