/*
 * compare: the same noise in several ways, side by side: through other machines, through other windows, or with something
 * left out of the bank.
 *
 * A comparison is a list of jobs that differ in one setting. They are made one after the other and followed by asking,
 * for a browser keeps only few streams open. The jobs' ids stand in the address, so that a comparison can be shared; when
 * they are no longer kept it is made again from the settings.
 */
import { call, inWords } from "./api.js";
import { byId, el, paint } from "./dom.js";

const POLL_MS = 400;
const MACHINES = ["is", "ls", "els", "bbels"];
const WINDOWS = [3, 7, 15];
const CAPTIONS = {
  is: ["Whole pictures", "is · can only copy one of them"],
  ls: ["Patches in place", "ls · a patch may only be used where it was"],
  els: ["Patches from anywhere", "els · borders wrap around"],
  bbels: ["Patches, borders kept", "bbels · the machine that this page begins with"],
};

/* What each kind compares, as { title, note, change } where `change` is laid over the settings. */
const KINDS = {
  machines: (body, caps) => MACHINES.filter((name) => caps.machines.some((machine) => machine.name === name))
    .map((machine) => ({ title: CAPTIONS[machine][0], note: CAPTIONS[machine][1], change: { machine } })),
  windows: (body, caps, bank) => {
    const change = caps.machines.find(({ name }) => name === body.machine)?.uses_p ? {} : { machine: "bbels" };
    const fitting = WINDOWS.filter((p) => p <= Math.min(...bank.shape.slice(1)));
    return [...fitting.map((p) => ({ title: `${p}×${p}`, note: "in every step", change: { ...change, scales: p } })),
      { title: "Shrinking", note: "the bank’s own, wide to small", change: { ...change, scales: null } }];
  },
  without: (body, caps, bank, left) => [
    { title: "With everything", note: "the whole bank, or the chosen class", change: { exclude: null } },
    { title: left.title, note: "the same noise", change: { exclude: left.exclude } },
  ],
};

export class Compare {
  #caps;
  #frames;
  #on;
  #serial = 0; /* only the newest comparison may come on screen */
  #jobs = []; /* ids */

  /* on.request(): the body that the form would send. on.bank(): its bank. on.leading(): a picture of it to leave out, or
   * null. on.moved(): the address has changed. on.announce(text). */
  constructor(caps, frames, on) {
    this.#caps = caps;
    this.#frames = frames;
    this.#on = on;
    this.arrange();
  }

  get kind() {
    return byId("compare").elements.kind.value;
  }

  set kind(kind) {
    if (kind in KINDS)
      byId("compare").elements.kind.value = kind;
    this.arrange();
  }

  /* What the address says about the comparison on screen; null when there is none. */
  get place() {
    return this.#jobs.length ? { compare: this.kind, with: this.#jobs.join("."), left: this.kind === "without" ? this.#left : null } : null;
  }

  /* What depends on the kind and on the form's bank and class. */
  arrange() {
    const bank = this.#on.bank();
    const choice = byId("left");
    const { label = null } = this.#on.request();
    const classes = label === null ? bank?.classes ?? [] : [];
    if (choice.dataset.of !== `${bank?.name}/${label}`) {
      choice.dataset.of = `${bank?.name}/${label}`;
      choice.replaceChildren(new Option("one picture", "picture"), ...classes.map((name, i) => new Option(`class ${name}`, String(i))));
    }
    byId("left-picture").max = (bank?.num_images ?? 1) - 1;
    byId("left-fields").hidden = this.kind !== "without";
    byId("left-picture").parentElement.hidden = choice.value !== "picture";
    if (byId("left-picture").value === "")
      byId("left-picture").value = this.#on.leading() ?? 0;
    for (const note of document.querySelectorAll("[data-kind]"))
      note.hidden = note.dataset.kind !== this.kind;
  }

  get #left() {
    return byId("left").value === "picture" ? `p${byId("left-picture").value || 0}` : `c${byId("left").value}`;
  }

  #leaveOut() {
    const number = Number(this.#left.slice(1));
    return this.#left[0] === "p"
      ? { title: `Without picture ${number}`, exclude: { images: [number] } }
      : { title: `Without class ${this.#on.bank().classes[number]}`, exclude: { classes: [number] } };
  }

  clear() {
    this.#serial++;
    this.#jobs = [];
    byId("compared").replaceChildren();
    byId("compared").hidden = true;
  }

  #cases() {
    const { exclude, ...body } = { ...this.#on.request(), num_images: 1 };
    return KINDS[this.kind](body, this.#caps, this.#on.bank(), this.#leaveOut())
      .map(({ title, note, change }) => ({ title, note, body: fitting({ ...body, ...change }, this.#caps) }));
  }

  async run() {
    const serial = ++this.#serial;
    const cases = this.#cases();
    this.#jobs = [];
    this.#lay(cases);
    this.#on.announce(`Comparing ${cases.length} pictures.`);
    for (const each of cases) {
      try {
        each.job = await call("POST", "/v1/jobs", { ...each.body, outputs: ["image", "x0"] });
      } catch (problem) {
        fail(each, problem);
      }
      if (serial !== this.#serial)
        return;
      if (each.job)
        this.#jobs.push(each.job.id);
    }
    this.#on.moved();
    await this.#follow(cases.filter(({ job }) => job), serial);
  }

  /* A comparison from an address. */
  async open({ compare, with: ids, left }) {
    this.kind = compare;
    if (left) {
      byId("left").value = left[0] === "p" ? "picture" : left.slice(1);
      if (left[0] === "p")
        byId("left-picture").value = Number(left.slice(1));
      this.arrange();
    }
    const serial = ++this.#serial;
    const cases = this.#cases();
    this.#jobs = ids.split(".").slice(0, cases.length);
    this.#lay(cases);
    await Promise.all(this.#jobs.map(async (id, i) => {
      try {
        cases[i].job = await call("GET", `/v1/jobs/${encodeURIComponent(id)}`);
      } catch (problem) {
        fail(cases[i], problem);
      }
    }));
    if (serial === this.#serial)
      await this.#follow(cases.filter(({ job }) => job), serial);
  }

  #lay(cases) {
    for (const each of cases) {
      each.canvas = el("canvas", { width: 1, height: 1, role: "img", "aria-label": `${each.title}: not drawn yet` });
      each.state = el("p", { className: "state" }, "Waiting");
      each.figure = el("figure", {}, el("div", { className: "well" }, each.canvas),
        el("figcaption", {}, el("strong", {}, each.title), el("span", {}, each.note), each.state));
    }
    byId("compared").hidden = false;
    byId("compared").replaceChildren(...cases.map(({ figure }) => figure));
    if (this.kind === "without") {
      const canvas = el("canvas", { width: 1, height: 1, role: "img", "aria-label": "The difference: not drawn yet" });
      byId("compared").append(el("figure", { id: "difference" }, el("div", { className: "well" }, canvas),
        el("figcaption", {}, el("strong", {}, "Difference"), el("span", {}, "grey where both agree"), el("p", { className: "state" }, "Waiting"))));
    }
  }

  async #follow(cases, serial) {
    const open = new Set(cases);
    while (open.size > 0) {
      for (const each of open) {
        if (await this.#settle(each))
          open.delete(each);
        if (serial !== this.#serial)
          return;
      }
      if (open.size > 0)
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    if (this.kind === "without" && cases.length === 2)
      difference(cases);
    this.#on.announce("The comparison is finished.");
  }

  /* Looks at one job; true when nothing more is to come from it. */
  async #settle(each) {
    try {
      const job = each.job.status === "succeeded" ? each.job : await call("GET", `/v1/jobs/${each.job.id}`);
      each.job = job;
      const { step = 0, steps = 0 } = job.progress ?? {};
      if (job.status === "queued" || job.status === "running") {
        each.state.textContent = job.status === "queued" ? "Waiting" : `Step ${step} of ${steps}`;
        return false;
      }
      if (job.status !== "succeeded") {
        each.state.textContent = job.status === "cancelled" ? "Cancelled" : job.error?.detail ?? "Failed";
        return true;
      }
      paint(each.canvas, await this.#frames.get(`/v1/jobs/${job.id}/images/0`));
      each.canvas.setAttribute("aria-label", `The picture: ${each.title}`);
      each.state.replaceChildren(el("a", { href: `?job=${job.id}` }, "Look closer", el("span", { className: "unseen" }, `: ${each.title}`)));
    } catch (problem) {
      fail(each, problem);
    }
    return true;
  }
}

function fail(each, problem) {
  each.state.textContent = inWords(problem, "job").join(" ");
}

/* The body without what the machine would refuse or ignore. */
function fitting(body, caps) {
  const machine = caps.machines.find(({ name }) => name === body.machine);
  const { scales, candidates, ...rest } = body;
  return { ...rest, ...(machine?.uses_p && scales && { scales }), ...(machine?.candidates && candidates && { candidates }) };
}

/* 127.5 + (b − a) / 2 in every channel, and how much it is on the whole. */
function difference([{ canvas: a }, { canvas: b }]) {
  const figure = byId("difference");
  const canvas = figure.querySelector("canvas");
  const { width, height } = a;
  if (width < 2 || b.width !== width)
    return;
  Object.assign(canvas, { width, height });
  const [one, two] = [a, b].map((each) => each.getContext("2d").getImageData(0, 0, width, height).data);
  const out = canvas.getContext("2d").createImageData(width, height);
  let changed = 0;
  for (let i = 0; i < one.length; i += 4) {
    for (let c = 0; c < 3; c++)
      out.data[i + c] = 127.5 + (two[i + c] - one[i + c]) / 2;
    out.data[i + 3] = 255;
    changed += [0, 1, 2].some((c) => Math.abs(two[i + c] - one[i + c]) > 2);
  }
  canvas.getContext("2d").putImageData(out, 0, 0);
  canvas.setAttribute("aria-label", "The difference of the two pictures");
  figure.querySelector(".state").textContent = changed ? `${changed} of ${width * height} pixels differ` : "No pixel differs";
}
