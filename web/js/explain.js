/*
 * explain: what a picture is made of. Beside the picture stands either the bank, or the training picture that the pixel in
 * question was taken from, with the very patch; under it the runners-up and what the whole mosaic amounts to.
 *
 * The page asks for the mosaic of the finished picture; a job made elsewhere may keep one for every step, which is then
 * fetched once the reader rests there. A server without mosaics leaves the bank's pictures to see.
 */
import { load } from "./api.js";
import { byId, count, number, paint, percent } from "./dom.js";
import { currentKey } from "./key.js";
import { drawWindow } from "./marks.js";
import { fetchMosaic } from "./mosaic.js";
import { wraps } from "./scale.js";
import { kept } from "./viewer.js";

const SHEET = 25; /* pictures of the bank that are shown */
const REST_MS = 150;

export class Explain {
  #caps;
  #frames;
  #marks;
  #on;
  #mosaics = new Map(); /* by job, image and step: promises */
  #mosaic = null; /* the one on screen */
  #job = null;
  #at = null; /* the step's { t, p } that the mosaic is of */
  #timer = 0;
  #serial = 0;

  /* on.leading(image): a picture that the one on screen owes most to. on.wanted(output): the reader wants the picture made
   * again with final_mosaic, or mosaic for the sources of every step. on.announce(text). */
  constructor(caps, frames, marks, on) {
    this.#caps = caps;
    this.#frames = frames;
    this.#marks = marks;
    this.#on = on;
    for (const id of ["source-switch", "origin-view", "show-pieces"])
      byId(id).hidden = !caps.outputs.includes("final_mosaic");
    for (const view of ["bank", "patch"])
      byId(`source-${view}`).addEventListener("click", () => this.#view(view));
    byId("explain-steps").addEventListener("click", () => this.#on.wanted("mosaic"));
    byId("explain-it").addEventListener("click", () => this.#on.wanted("final_mosaic"));
    byId("sheet").addEventListener("load", () => { byId("sheet").hidden = false; });
  }

  /* The bank's pictures, of one class or all. */
  async bank(bank, label) {
    const sheet = byId("sheet");
    const path = `/v1/banks/${encodeURIComponent(bank.name)}/sheet?limit=${SHEET}${label === null ? "" : `&label=${label}`}`;
    if (sheet.dataset.path === path)
      return;
    sheet.dataset.path = path;
    sheet.hidden = true;
    const name = label === null ? "" : ` of class “${bank.classes[label]}”`;
    sheet.alt = `Pictures of the bank ${bank.name}${name}`;
    const all = bank.num_images <= SHEET && label === null;
    byId("sheet-note").textContent = `${all ? "The" : "Some of the"} ${bank.name} pictures${name}. Everything the machine `
      + "draws is put together from small patches of these.";
    const url = currentKey() ? await load(path).then(URL.createObjectURL, () => "") : path;
    if (sheet.dataset.path === path)
      sheet.src = url;
  }

  /* Nothing to explain yet. */
  clear() {
    this.#serial++;
    clearTimeout(this.#timer);
    this.#job = this.#mosaic = null;
    this.#marks.mosaic(null);
    byId("explain-it").classList.add("off");
    for (const view of ["source-bank", "source-patch"])
      byId(view).disabled = true;
    this.#view("bank");
  }

  /* The viewer shows a finished job. */
  show(job, place) {
    const every = kept(job, "mosaic");
    if (!every && !kept(job, "final_mosaic")) {
      byId("explain-it").classList.toggle("off", !this.#caps.outputs.includes("final_mosaic"));
      return;
    }
    const step = every ? place.step : job.result.steps.length;
    const serial = ++this.#serial;
    const first = this.#job?.id !== job.id;
    this.#job = job;
    byId("explain-steps").disabled = every || !this.#caps.outputs.includes("mosaic");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(job, { ...place, step }, serial, first), first ? 0 : REST_MS);
  }

  async #load(job, place, serial, first) {
    const which = `${job.id}/${place.image}/${place.step}`;
    if (!this.#mosaics.has(which))
      this.#mosaics.set(which, fetchMosaic(job, place));
    let mosaic;
    try {
      mosaic = await this.#mosaics.get(which);
    } catch (problem) {
      this.#mosaics.delete(which);
      if (serial === this.#serial)
        byId("origin-words").textContent = problem.detail || "The mosaic could not be loaded.";
      return;
    }
    if (serial !== this.#serial)
      return;
    const { steps, images } = job.result;
    this.#mosaic = mosaic;
    this.#at = steps[place.step] ?? steps.at(-1);
    this.#marks.mosaic(mosaic);
    const summary = mosaic.summary;
    this.#facts(summary, images[place.image]);
    for (const view of ["source-bank", "source-patch"])
      byId(view).disabled = false;
    if (first) {
      if (summary.pixel)
        this.#marks.pin(summary.pixel);
      if (summary.leading !== null)
        this.#on.leading(summary.leading);
      this.#view("patch");
    }
    this.pixel(this.#marks.pixel);
  }

  #facts({ pieces, sources }, { local_consistency: consistent, nearest }) {
    byId("f-pieces").textContent = pieces ? `${count(pieces, "piece")} from ${count(sources, "picture")}` : "no clear piece";
    byId("f-consistent").textContent = typeof consistent === "number" ? percent(consistent) : "–";
    byId("nearest").classList.toggle("off", !nearest);
    byId("f-nearest").textContent = "–";
    if (!nearest)
      return;
    const { bank_index: index, dy, dx, distance } = nearest;
    byId("f-nearest").textContent = `no. ${index.toLocaleString("en")} · ${number(distance)} apart`;
    byId("f-nearest").title = `Root-mean-square distance per value, with the training picture moved by ${dy} rows and ${dx} columns`;
    this.#paint(byId("nearest"), index);
  }

  #view(view) {
    const patch = view === "patch";
    byId("sheet-view").classList.toggle("off", patch);
    byId("origin-view").classList.toggle("off", !patch);
    for (const each of ["bank", "patch"])
      byId(`source-${each}`).setAttribute("aria-pressed", String(each === view));
  }

  #pictureUrl(image) {
    return `/v1/banks/${encodeURIComponent(this.#job.params.bank)}/images/${image}`;
  }

  #paint(canvas, image) {
    canvas.dataset.image = image;
    return this.#frames.get(this.#pictureUrl(image)).then((bitmap) => {
      if (canvas.dataset.image === String(image))
        paint(canvas, bitmap);
    }, () => {});
  }

  #name(image) {
    return `training picture ${image.toLocaleString("en")}`;
  }

  /* Another pixel is in question. */
  pixel({ y, x }) {
    const mosaic = this.#mosaic;
    if (!mosaic || y >= mosaic.H || x >= mosaic.W)
      return;
    const [best, ...others] = mosaic.top(y, x);
    if (!best)
      return;
    this.#paint(byId("origin"), best.image);
    this.#window(byId("origin-marks"), best, true);
    byId("origin").setAttribute("aria-label", `${this.#name(best.image)}, patch at row ${best.row}, column ${best.column}`);
    const effective = mosaic.effective(y, x);
    const words = mosaic.decided(y, x)
      ? `This pixel is from ${this.#name(best.image)}: ${percent(best.weight)} of its value.`
      : `About ${Math.round(effective).toLocaleString("en")} patches agree here, as in plain background. One of them is shown.`;
    byId("origin-words").textContent = words;
    this.#on.announce(`Row ${y}, column ${x}. ${words}`);
    const items = [...byId("runners").children];
    items.forEach((item, k) => {
      const other = others[k];
      item.classList.toggle("is-empty", !other);
      item.querySelector("p").textContent = other ? percent(other.weight) : "–";
      if (other) {
        this.#paint(item.querySelector("canvas"), other.image);
        this.#window(item.querySelector("svg"), other, false);
      } else {
        item.querySelector("svg").replaceChildren();
        Object.assign(item.querySelector("canvas"), { width: 1, height: 1 }).dataset.image = "";
      }
      item.title = other ? `Picture ${other.image}, row ${other.row}, column ${other.column}` : "";
    });
  }

  #window(svg, { row, column }, veil) {
    const { H, W } = this.#mosaic;
    drawWindow(svg, { y: row, x: column }, this.#at.p, [H, W], { wrapped: wraps(this.#job.params), veil });
  }
}
