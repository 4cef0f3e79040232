/*
 * film: the whole run on one strip. Each column is a step, the last one the finished picture: above the noisy picture and
 * the guess, below what the machine was told (noise level, window) and how sure it was of the pixel in question: the
 * entropy of its patches' weights in nats, and the exponential of that, the effective number of patches.
 *
 * The columns are the positions of the viewer's slider; of long runs an even selection is shown.
 */
import { load } from "./api.js";
import { byId, number } from "./dom.js";
import { plot } from "./plot.js";
import { readNpy } from "./npy.js";
import { frameUrl, kept } from "./viewer.js";

const MOST = 24; /* columns */
const ENTROPY_BYTES = 16e6; /* a tensor larger than this is not fetched for a plot */
const STRIPS = ["xt", "x0"];

export class Film {
  #frames;
  #shape = [1, 32, 32];
  #steps = 19; /* S */
  #shown = ""; /* which job and picture the strips hold */
  #values = {}; /* per row, one value per step */
  #entropy = null; /* the tensor [N,S,H,W], with the picture that is shown */
  #pixel = null;
  #at = null; /* the step whose values are told */

  /* seek(step) is called when the reader points at a column. */
  constructor(frames, seek) {
    this.#frames = frames;
    const grid = byId("film-columns");
    const to = (event) => {
      const { left, width } = grid.getBoundingClientRect();
      const column = Math.floor(((event.clientX - left) / width) * this.#columns.length);
      seek(this.#columns[Math.min(this.#columns.length - 1, Math.max(0, column))]);
    };
    grid.addEventListener("click", to);
    grid.addEventListener("pointermove", (event) => {
      if (event.buttons === 1 && event.pointerType === "mouse")
        to(event);
    });
  }

  /* The positions that have a column. */
  get #columns() {
    const last = this.#steps;
    const n = Math.min(last + 1, MOST);
    return Array.from({ length: n }, (_, i) => Math.round((i * last) / (n - 1)));
  }

  /* A run begins, or none is there: empty strips. */
  clear(shape, steps) {
    this.#shape = shape;
    this.#steps = Math.max(1, steps);
    this.#shown = "";
    this.#values = {};
    this.#entropy = null;
    const [, H, W] = shape;
    const n = this.#columns.length;
    for (const of of STRIPS)
      Object.assign(byId(`strip-${of}`), { width: n * W, height: H });
    byId("film-columns").style.setProperty("--columns", n);
    byId("film-columns").style.setProperty("--frame", `${W} / ${H}`);
    byId("film-cursor").hidden = true;
    this.#plots();
    this.#tell(null);
  }

  preview({ step, bitmap }) {
    const column = this.#columns.indexOf(step);
    if (column >= 0)
      this.#paint("x0", column, bitmap);
  }

  /* What the viewer shows of a finished job; fetches what is not here yet. */
  show(job, { image, step }) {
    const which = `${job.id}/${image}`;
    if (which !== this.#shown) {
      const { length } = job.result.steps;
      this.clear(this.#shape, length);
      this.#shown = which;
      this.#load(job, image, which);
    }
    const columns = this.#columns;
    const nearest = columns.reduce((best, at, i) => (Math.abs(at - step) < Math.abs(columns[best] - step) ? i : best), 0);
    byId("film-cursor").hidden = false;
    byId("film-cursor").style.setProperty("--column", nearest);
    this.#tell(step);
    const box = byId("film-scroll");
    const at = ((nearest + 0.5) / columns.length) * byId("film-columns").scrollWidth;
    if (box.scrollWidth > box.clientWidth)
      box.scrollTo({ left: at - box.clientWidth / 2 });
  }

  async #load(job, image, which) {
    const { steps } = job.result;
    this.#values = { beta: steps.map((at) => 1 - at.alpha_bar), p: steps[0].p ? steps.map((at) => at.p) : undefined };
    this.#plots();
    for (const of of STRIPS)
      if (kept(job, of))
        this.#columns.forEach((step, column) => this.#frames.get(frameUrl(job, { image, step, of })).then((bitmap) => {
          if (which === this.#shown)
            this.#paint(of, column, bitmap);
        }, () => {}));
    const [, H, W] = this.#shape;
    if (!kept(job, "entropy") || 4 * job.result.images.length * steps.length * H * W > ENTROPY_BYTES)
      return;
    try {
      const blob = await load(`/v1/jobs/${job.id}/tensors?name=entropy`);
      const tensor = readNpy(await blob.arrayBuffer());
      if (which === this.#shown) {
        this.#entropy = { ...tensor, image };
        this.pixel(this.#pixel);
      }
    } catch {
      /* without it two plots stay empty */
    }
  }

  /* Another pixel is in question. */
  pixel(pixel) {
    this.#pixel = pixel;
    if (!this.#entropy)
      return;
    const [, S, H, W] = this.#entropy.shape;
    const { y, x } = pixel ?? { y: H >> 1, x: W >> 1 };
    const { data, image } = this.#entropy;
    const entropy = [], all = [];
    for (let s = 0; s < S; s++) {
      const values = data.subarray((image * S + s) * H * W, (image * S + s + 1) * H * W);
      entropy.push(values[y * W + x]);
      all.push(this.#entropy.means?.[s] ?? values.reduce((sum, value) => sum + value, 0) / values.length);
    }
    this.#entropy.means = all;
    Object.assign(this.#values, { entropy, patches: entropy.map(Math.exp), all });
    this.#plots();
    this.#tell(this.#at);
  }

  #paint(of, column, bitmap) {
    const [, H, W] = this.#shape;
    byId(`strip-${of}`).getContext("2d").drawImage(bitmap, column * W, 0, W, H);
  }

  #plots() {
    const steps = this.#columns.slice(0, -1); /* the last column is no step */
    const curve = (values, name) => ({ values: values && steps.map((step) => values[step]), name });
    const { beta, p, patches, entropy, all } = this.#values;
    const n = steps.length + 1;
    plot(byId("plot-beta"), [curve(beta)], n);
    plot(byId("plot-p"), [curve(p)], n, { stairs: true });
    plot(byId("plot-patches"), [curve(patches), curve(all?.map(Math.exp), "all")], n, { from: 1, log: true });
    plot(byId("plot-entropy"), [curve(entropy), curve(all, "all")], n);
  }

  /* The values at a step beside their rows. */
  #tell(step) {
    this.#at = step;
    const value = (row) => (step === null ? undefined : this.#values[row]?.[step]);
    const patches = value("patches");
    const whole = value("beta") !== undefined && !this.#values.p; /* the machine looks at whole pictures */
    byId("v-beta").textContent = number(value("beta"));
    byId("v-p").textContent = value("p") ? `${value("p")}×${value("p")}` : whole ? "all" : "–";
    byId("v-patches").textContent = !patches ? "–" : patches < 100 ? patches.toFixed(1) : Math.round(patches).toLocaleString("en");
    byId("v-entropy").textContent = value("entropy") === undefined ? "–" : `${value("entropy").toFixed(2)} nats`;
  }
}
