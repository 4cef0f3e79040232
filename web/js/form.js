/*
 * form: the settings of a run, as the reader sees them and as the API wants them.
 *
 * `settings` is a plain object with the API's own field names and values (but for `exclude`, which is two fields here);
 * every option, limit and default comes from /v1/capabilities. The form never decides that a value is acceptable beyond
 * what those limits say: the server does.
 */

import { call } from "./api.js";
import { byId, count } from "./dom.js";

const NAMES = ["bank", "label", "machine", "num_images", "seed", "num_inference_steps", "scales",
  "candidates", "sampler", "start_step", "noise_schedule", "noise", "max_samples", "exclude_images", "exclude_class"];
const ONE_SCALE = "#";
const LARGE_BANK = 500; /* pictures */
const TITLES = { is: "ideal", es: "equivariant", ls: "local", els: "equivariant local", bbels: "with borders" };

const whole = (text) => (String(text).trim() === "" ? null : Number(text));

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function has(select, value) {
  return [...select.options].some((option) => option.value === String(value));
}

/* "ideal score: whole images in place" → "Whole images in place." The title stands in the list already. */
function sentence(summary) {
  const rest = summary.replace(/^[^:]{1,60}: /, "");
  return rest.charAt(0).toUpperCase() + rest.slice(1).replace(/([^.])$/, "$1.");
}

export function rollSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 1000000;
}

export class Form {
  #caps;
  #inputs = Object.fromEntries(NAMES.map((name) => [name, byId(name)]));
  #p = byId("p");

  /* onchange() is called whenever a setting may have changed. */
  constructor(caps, onchange) {
    this.#caps = caps;
    const { machines, banks, presets, limits } = caps;
    const plain = (list) => list.map((name) => [name, name]);
    fill(this.#inputs.bank, banks.map(({ name }) => [name, name]));
    fill(this.#inputs.machine, machines.map(({ name }) => [name, TITLES[name] ? `${name} · ${TITLES[name]}` : name]));
    fill(this.#inputs.sampler, plain(caps.samplers));
    fill(this.#inputs.start_step, plain(caps.start_steps));
    fill(this.#inputs.noise_schedule, plain(caps.noise_schedules));
    fill(this.#inputs.noise, plain(caps.noise));
    fill(this.#inputs.scales, [["", ""], ["auto", "What the bank alone says"], ...plain(presets.map(({ name }) => name)),
      [ONE_SCALE, "One for every step:"]]);
    const bound = (input, { min = "", max = "" } = {}) => Object.assign(input, { min, max });
    bound(this.#inputs.num_images, limits.num_images);
    bound(this.#inputs.num_inference_steps, limits.num_inference_steps);
    bound(this.#p, limits.p ?? limits.scales);

    byId("make").addEventListener("input", () => {
      this.clearErrors();
      this.#arrange();
      onchange();
    });
    /* The browser points at what is out of range, but cannot point into a closed fold. */
    byId("make").addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);
    byId("more").addEventListener("toggle", () => this.#savedScales().catch(() => {}), { once: true });
    byId("die").addEventListener("click", () => {
      this.seed = rollSeed();
      onchange();
    });
    for (const input of [...Object.values(this.#inputs), this.#p, byId("die"), byId("go"), byId("defaults")])
      input.disabled = false;
    this.settings = this.defaults;
  }

  get defaults() {
    const from = this.#caps.defaults;
    const settings = Object.fromEntries(NAMES.map((name) => [name, from[name] ?? null]));
    const bank = this.#caps.banks.find(({ name }) => name === settings.bank) ?? this.#caps.banks[0];
    return {
      ...settings,
      bank: bank?.name ?? null,
      scales: null, /* the bank's own */
      num_inference_steps: settings.num_inference_steps ?? 20,
      noise_schedule: typeof settings.noise_schedule === "string" ? settings.noise_schedule : null,
      seed: settings.seed ?? rollSeed(),
    };
  }

  /* What a first visit begins with: of a large bank one class, so that the picture comes soon and shows something. */
  get first() {
    const settings = this.defaults;
    const { num_images = 0, classes } = this.#caps.banks.find(({ name }) => name === settings.bank) ?? {};
    return { ...settings, label: settings.label ?? (num_images > LARGE_BANK && classes?.length > 3 ? 3 : null) };
  }

  get bank() {
    return this.#caps.banks.find(({ name }) => name === this.#inputs.bank.value);
  }

  get machine() {
    return this.#caps.machines.find(({ name }) => name === this.#inputs.machine.value);
  }

  get settings() {
    const value = (name) => this.#inputs[name].value;
    const scales = value("scales");
    return {
      bank: value("bank") || null,
      label: whole(value("label")),
      machine: value("machine"),
      num_images: whole(value("num_images")),
      seed: whole(value("seed")),
      num_inference_steps: whole(value("num_inference_steps")),
      scales: scales === ONE_SCALE ? whole(this.#p.value) : scales || null,
      candidates: this.machine?.candidates ? value("candidates") : null,
      sampler: value("sampler"),
      start_step: value("start_step"),
      noise_schedule: value("noise_schedule"),
      noise: value("noise"),
      max_samples: whole(value("max_samples")),
      exclude_images: value("exclude_images").match(/\d+/g)?.join(",") ?? null,
      exclude_class: whole(value("exclude_class")),
    };
  }

  /* Takes what it can; `refused` then names what this server does not have. */
  set settings(settings) {
    this.refused = [];
    this.#set("bank", settings.bank);
    this.#arrange();
    this.#set("machine", settings.machine);
    this.#arrange();
    for (const name of NAMES.slice(1))
      if (name !== "machine" && name !== "scales")
        this.#set(name, settings[name]);
    const { scales } = settings;
    const one = typeof scales === "number";
    this.#p.value = one ? scales : this.#p.value || 5;
    this.#set("scales", one ? ONE_SCALE : scales);
    this.#arrange();
  }

  set seed(seed) {
    this.#inputs.seed.value = seed;
  }

  #set(name, value) {
    const input = this.#inputs[name];
    const text = value === null || value === undefined ? "" : String(value);
    if (input.localName !== "select")
      input.value = text;
    else if (has(input, text) || (name === "scales" && this.#addScales(text)))
      input.value = text;
    else if (text && !input.disabled)
      this.refused.push(`${name} “${text}”`);
  }

  /* Scales may have been saved under a name that only the server knows, which then says so. */
  #addScales(name) {
    if (name && !has(this.#inputs.scales, name))
      this.#inputs.scales.add(new Option(name, name), this.#inputs.scales.options.length - 1);
    return true;
  }

  async #savedScales() {
    for (let cursor = ""; cursor !== null;) {
      const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
      const { scales, next_cursor: next = null } = await call("GET", `/v1/scales${query}`);
      for (const { name } of scales)
        this.#addScales(name);
      cursor = next;
    }
  }

  /* The body of POST /v1/jobs: only fields that mean something here. */
  get request() {
    const { exclude_images: images, exclude_class: left, ...settings } = this.settings;
    if (!this.machine?.uses_p)
      delete settings.scales;
    if (images !== null || left !== null)
      settings.exclude = { ...(images !== null && { images: images.split(",").map(Number) }),
        ...(left !== null && { classes: [left] }) };
    return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null));
  }

  /* What depends on other fields: classes on the bank, candidates and scales on the machine. */
  #arrange() {
    const { bank, machine } = this;
    const label = this.#inputs.label;
    if (label.dataset.bank !== bank?.name) {
      const classes = bank?.classes ?? [];
      label.dataset.bank = bank?.name;
      fill(label, [["", classes.length ? "any" : "none"], ...classes.map((name, i) => [i, name])]);
      fill(this.#inputs.exclude_class, [["", "none"], ...classes.map((name, i) => [i, name])]);
      label.disabled = this.#inputs.exclude_class.disabled = !classes.length;
    }
    if (bank) {
      const [C, H, W] = bank.shape;
      byId("bank-note").textContent = `${count(bank.num_images, "picture")}, ${W}×${H}, ${
        { 1: "grey", 3: "colour" }[C] ?? `${C} channels`}.`;
      const own = this.#caps.presets.some(({ name }) => name === bank.scales) ? ` (${bank.scales})` : "";
      this.#inputs.scales.options[0].textContent = `The bank’s own${own}`;
      this.#inputs.max_samples.max = bank.num_images;
    }
    if (machine) {
      const candidates = this.#inputs.candidates;
      byId("machine-note").textContent = sentence(machine.summary);
      if (candidates.dataset.machine !== machine.name) {
        candidates.dataset.machine = machine.name;
        fill(candidates, (machine.candidates ?? ["–"]).map((name) => [name, name]));
      }
      candidates.disabled = !machine.candidates;
      this.#inputs.scales.disabled = this.#p.disabled = !machine.uses_p;
      byId("scales-note").textContent = machine.uses_p
        ? "Side of the window that a pixel looks at, per step."
        : `${machine.name} always looks at the whole picture.`;
    }
    this.#p.hidden = this.#inputs.scales.value !== ONE_SCALE;
    this.#p.required = !this.#p.hidden;
  }

  clearErrors() {
    for (const note of document.querySelectorAll(".field-error"))
      note.remove();
    for (const input of document.querySelectorAll("#make [aria-invalid]")) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-errormessage");
    }
  }

  /* `errors` of a problem: each sentence goes under its field; the first such field gets the focus. True when all found
   * a place. */
  showErrors(errors) {
    this.clearErrors();
    let first = null;
    for (const { pointer = "", detail = "" } of errors) {
      const name = fieldOf(pointer);
      const input = this.#inputs[name];
      if (!input || input.hasAttribute("aria-invalid"))
        continue;
      const note = Object.assign(document.createElement("p"),
        { className: "field-error", id: `${name}-error`, textContent: detail });
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-errormessage", note.id);
      input.closest(".field").append(note);
      if (input.closest("details"))
        input.closest("details").open = true;
      first ??= input;
    }
    first?.focus();
    return first !== null && errors.every(({ pointer = "" }) => fieldOf(pointer) in this.#inputs);
  }
}

/* The field that a problem's JSON pointer is about. */
function fieldOf(pointer) {
  const [, name, part] = pointer.split("/");
  return name === "exclude" ? (part === "classes" ? "exclude_class" : "exclude_images") : name;
}

/* A job's resolved parameters as settings: what a link that names only a job shows in the form. */
export function settingsOf(params, caps) {
  const settings = Object.fromEntries(NAMES.map((name) => [name, params[name] ?? null]));
  settings.exclude_images = params.exclude?.images?.join(",") || null;
  settings.exclude_class = params.exclude?.classes?.[0] ?? null;
  const bank = caps.banks.find(({ name }) => name === params.bank);
  for (const name of ["label", "exclude_class"])
    if (typeof settings[name] === "string")
      settings[name] = bank?.classes?.indexOf(settings[name]) ?? null;
  if (typeof settings.noise_schedule !== "string")
    settings.noise_schedule = null;
  if (typeof settings.scales === "object" && settings.scales !== null) {
    const p = settings.scales.p ?? settings.scales;
    const preset = caps.presets.find((each) => String(each.p) === String(p));
    settings.scales = preset?.name ?? (Array.isArray(p) && p.every((each) => each === p[0]) ? p[0] : null);
  }
  if (settings.scales === bank?.scales)
    settings.scales = null;
  return settings;
}
