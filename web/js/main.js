/*
 * main: ties the form, the running job and everything that shows it together, and keeps the address in step with the
 * screen.
 *
 * Where truth lives: settings in the form, the place (image, step, view) in the viewer, the run in `run`, the comparison
 * and the tour in theirs. The address is written from these and read only on load and on back or forward.
 */
import { call } from "./api.js";
import { byId, calm, seconds } from "./dom.js";
import { Explain } from "./explain.js";
import { Film } from "./film.js";
import { Form, rollSeed, settingsOf } from "./form.js";
import { Frames } from "./frames.js";
import { follow } from "./job.js";
import * as link from "./link.js";
import { Marks } from "./marks.js";
import { announce, complain, forgive, say } from "./say.js";
import { scaleAt, wraps } from "./scale.js";
import { copies, curlOf, jsonOf, offer, pythonOf, watchDownloads } from "./take.js";
import { kept, Viewer } from "./viewer.js";

const LOAD_RETRY_MS = 4000;
const ALL_LIMIT = 4000; /* pictures × steps for which the noisy pictures and the entropies are kept, too */
const SOURCES_LIMIT = 1000; /* pictures × training pictures up to which looking for the sources takes a moment */

let caps, form, explain;
let compare = null, tour = null; /* loaded when they are first wanted: see comparing and touring */
let leading = null; /* the training picture that the one on screen owes most to */
let opening = 0; /* serial: only the last address that was opened, or run that was made, may come on screen */
const frames = new Frames();
const film = new Film(frames, (step) => run?.job?.status === "succeeded" && viewer.go({ step }));
const marks = new Marks((pixel) => {
  film.pixel(pixel);
  explain?.pixel(pixel);
});
const viewer = new Viewer(frames, { moved, shown, arrived, sized: (W, H) => marks.sized(W, H) });
/* The run on screen: { id, job, settings, body, following }. `job` is its last document, `settings` the form's when it
 * was made (the reader may have changed them since), `body` what was asked, as text. */
let run = null;

/* ---- the address ---- */

let written = ""; /* the part of the address that this page last wrote or read */

function address(push = false) {
  const place = { job: run?.id, ...compare?.place, tour: tour?.place };
  if (run?.job?.status === "succeeded") {
    const { image, step, of } = viewer.place;
    const last = run.job.result.steps.length;
    Object.assign(place, { image: image || null, step: step < last ? step : null, of: of === "xt" ? of : null });
  }
  const search = link.write(run?.settings ?? form.settings, form.defaults, place);
  if (search !== written)
    history[push ? "pushState" : "replaceState"](null, "", search);
  written = search;
}

let addressTimer = 0;

/* Browsers limit how often the address may change; scrubbing would exceed that. */
function addressSoon() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(address, 250);
}

/* ---- what the viewer tells ---- */

function moved(place) {
  if (run?.job?.status === "succeeded")
    offer(run.job, place.image);
  addressSoon();
}

function shown(job, place) {
  const { steps } = job.result;
  const explained = kept(job, "final_mosaic") || kept(job, "mosaic");
  const at = steps[place.step] ?? (explained ? steps.at(-1) : null); /* the picture's patches are those of the last step */
  marks.window(at && { p: at.p, wrapped: wraps(job.params) });
  film.show(job, place);
  explain.show(job, place);
}

function arrived(preview) {
  const p = scaleAt(run.job.params, preview.t, caps);
  marks.window(p === undefined ? null : { p, wrapped: wraps(run.job.params) });
  film.preview(preview);
}

/* ---- the run ---- */

function shapeOf(name) {
  return caps.banks.find((bank) => bank.name === name)?.shape ?? [1, 32, 32];
}

function running() {
  return Boolean(run?.following);
}

function buttons() {
  byId("cancel").hidden = !running();
  byId("go").setAttribute("aria-disabled", String(running() || Boolean(run?.sending)));
  const count = form.settings.num_images;
  const same = run?.body === JSON.stringify(form.request);
  byId("go").textContent = running() || run?.sending ? "Drawing…"
    : same ? "Make another" : count > 1 ? `Make ${count} pictures` : "Make a picture";
}

function leave() {
  run?.following?.close();
  run = null;
  offer(null);
  viewer.stop();
}

/* The screen for a run that has just begun. */
function begin(params) {
  viewer.live(params.num_images, params.seed);
  marks.window(null);
  film.clear(shapeOf(params.bank), params.num_inference_steps - (params.start_step === "paper"));
  explain.clear();
  byId("words").textContent = "Watch the machine’s guess of the clean picture get sharper, step by step.";
  watch();
}

function nothing() {
  const shape = form.bank?.shape ?? [1, 32, 32];
  viewer.empty(shape);
  marks.window(null);
  film.clear(shape, form.settings.num_inference_steps - 1);
  explain.clear();
}

/* How many training pictures a request draws from, about. */
function drawnFrom({ bank, label = null, max_samples = Infinity }) {
  const { num_images = 0, classes } = caps.banks.find(({ name }) => name === bank) ?? {};
  return Math.min(label === null ? num_images : num_images / (classes?.length || 1), max_samples);
}

/* What the page can show of a run, unless it is too much. `sources` is the output that the reader wants to have at any
 * price: final_mosaic, or mosaic for those of every step. */
function outputsOf(request, sources) {
  const { num_images, num_inference_steps } = request;
  const few = num_images * num_inference_steps <= ALL_LIMIT;
  const soon = num_images * drawnFrom(request) <= SOURCES_LIMIT;
  return ["image", "x0", ...(few ? ["xt", "entropy"] : []), sources ?? (soon ? "final_mosaic" : "")]
    .filter((name) => caps.outputs.includes(name));
}

async function make({ sources = null } = {}) {
  if (running() || run?.sending)
    return;
  if (!sources && run?.body === JSON.stringify(form.request))
    form.seed = rollSeed(); /* the same settings would only draw the same picture */
  const mine = ++opening;
  forgive();
  form.clearErrors();
  const { settings, request } = form;
  const body = JSON.stringify(request);
  const before = run;
  run = { ...before, sending: true };
  buttons();
  say("Asking…");
  let job = null, problem = null;
  try {
    job = await call("POST", "/v1/jobs", { ...request, outputs: outputsOf(request, sources) });
  } catch (thrown) {
    problem = thrown;
  }
  if (mine !== opening)
    return; /* the reader has gone elsewhere */
  if (problem) {
    run = before;
    say("Not made.");
    const marked = form.showErrors(problem.errors);
    complain(marked ? "These settings do not work. See what is marked." : problem, "page", () => make({ sources }));
    buttons();
    return;
  }
  run = { id: job.id, job, settings, body };
  offer(null);
  begin(job.params);
  address(true);
  const { top, bottom } = byId("frame").getBoundingClientRect();
  if (top < 0 || bottom > innerHeight)
    byId("watch").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
}

function watch() {
  let quarter = 0;
  const mine = run;
  announce("Started.");
  mine.following = follow(mine.id, {
    state(job) {
      mine.job = job;
      if (job.status === "queued")
        say(job.queue_position > 0 ? `Waiting: place ${job.queue_position} in the queue` : "Waiting in the queue");
      else
        this.progress(job.progress ?? {});
    },
    progress({ step = 0, steps = 0, eta_seconds }) {
      const left = typeof eta_seconds === "number" && step > 0 && step < steps ? ` · ${seconds(eta_seconds)} left` : "";
      viewer.progress(step, steps);
      say(steps ? `Step ${step} of ${steps}${left}` : "Starting");
      if (steps && Math.floor((4 * step) / steps) > quarter && step < steps) {
        quarter = Math.floor((4 * step) / steps);
        announce(`${25 * quarter} percent done${left}`);
      }
    },
    preview(preview) {
      viewer.preview(preview);
    },
    lost() {
      say("Connection lost. Trying again…");
    },
    back() {
      say("Connected again.");
    },
    end(job) {
      mine.following = null;
      finished(job);
    },
    gone(problem) {
      leave();
      say("Interrupted");
      complain(problem, "job");
      buttons();
    },
  });
  buttons();
}

function finished(job, place) {
  run.job = job;
  if (job.status !== "succeeded")
    run.body = null; /* asking again means the same picture, not another one */
  viewer.stop();
  if (job.status === "succeeded") {
    viewer.done(job, place);
    offer(job, viewer.place.image);
    const took = (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000;
    say(took >= 0.1 ? `Done in ${took < 10 ? took.toFixed(1) : Math.round(took)} s` : "Done");
    announce("The picture is finished. Use the step slider to see how it came about.");
  } else if (job.status === "cancelled") {
    say("Cancelled");
    announce("Cancelled.");
    byId("words").textContent = "Cancelled before the end. Make it again whenever you like.";
  } else {
    say("Failed");
    complain({ status: 500, detail: job.error?.detail || "The server gave no reason." });
  }
  buttons();
  address();
}

async function cancel() {
  say("Cancelling…");
  try {
    await call("DELETE", `/v1/jobs/${run.id}`);
  } catch (problem) {
    complain(problem, "job");
  }
}

/* ---- opening an address ---- */

async function restore() {
  const mine = ++opening;
  clearTimeout(addressTimer);
  leave();
  forgive();
  written = location.search;
  const { settings, place, comparison, tour: stop } = link.read(written);
  form.settings = place || Object.keys(settings).length ? { ...form.defaults, ...settings } : form.first;
  if (form.refused.length)
    complain(`This server does not have ${form.refused.join(", ")}.`);
  settled();
  compare?.clear();
  if (stop || tour)
    touring().then(() => {
      tour.open(stop);
      addressSoon();
    });
  if (comparison)
    comparing().then(() => {
      compare.open(comparison);
      addressSoon();
    });
  if (!place) {
    nothing();
    say("Ready");
    return;
  }
  say("Opening…");
  let job = null, problem = null;
  try {
    job = await call("GET", `/v1/jobs/${place.job}`);
  } catch (thrown) {
    problem = thrown;
  }
  if (mine !== opening)
    return;
  if (problem) {
    nothing();
    say("Ready");
    complain(problem, "job");
    return;
  }
  if (!("seed" in settings)) {
    form.settings = { ...form.defaults, ...settingsOf(job.params, caps) };
    settled();
  }
  run = { id: job.id, job, settings: form.settings, body: JSON.stringify(form.request) };
  if (job.status === "queued" || job.status === "running") {
    begin(job.params);
  } else {
    nothing();
    film.clear(shapeOf(job.params.bank), job.progress?.steps ?? 1);
    finished(job, place);
  }
}

/* What follows from the settings: the sheet of the bank, what can be compared, the button. */
function settled() {
  if (form.bank)
    explain.bank(form.bank, form.settings.label);
  compare?.arrange();
  buttons();
}

async function comparing() {
  const { Compare } = await import("./compare.js");
  compare ??= new Compare(caps, frames, { request: () => form.request, bank: () => form.bank, leading: () => leading,
    moved: () => address(true), announce });
  return compare;
}

async function touring() {
  const { Tour } = await import("./tour.js");
  tour ??= new Tour(caps, actions, addressSoon);
  return tour;
}

/* ---- the tour's own settings ---- */

function makeWith(settings) {
  form.settings = { ...form.defaults, ...settings };
  settled();
  make();
}

const actions = {
  twoTone: () => makeWith({ bank: "two-tone", machine: "els", seed: 7 }),
  threes: () => makeWith({ ...form.first, seed: 20 }),
  play: () => run?.job?.status === "succeeded" && viewer.play(),
  pieces: () => marks.pieces(byId("map").hidden),
  async machines() {
    await comparing();
    compare.kind = "machines";
    compare.run();
    byId("compare").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" });
  },
};

/* ---- the beginning ---- */

function ready() {
  byId("version").textContent = `${caps.version} (${caps.kernel} kernel)`;
  form = new Form(caps, () => {
    settled();
    if (!run)
      addressSoon();
  });
  explain = new Explain(caps, frames, marks, {
    leading(image) {
      leading = image;
    },
    wanted(sources) {
      form.settings = run.settings;
      settled();
      make({ sources });
    },
    announce,
  });
  byId("compare").addEventListener("submit", (event) => {
    event.preventDefault();
    comparing().then(() => compare.run());
  });
  byId("compare").addEventListener("change", () => comparing().then(() => compare.arrange()));
  byId("tour-start").addEventListener("click", () => touring().then(() => tour.go(0)));
  byId("make").addEventListener("submit", (event) => {
    event.preventDefault();
    make();
  });
  byId("cancel").addEventListener("click", cancel);
  byId("defaults").addEventListener("click", () => {
    form.settings = { ...form.defaults, seed: form.settings.seed };
    settled();
  });
  const onScreen = () => run?.job?.params ?? form.request;
  copies("copy-curl", () => curlOf(onScreen()), announce);
  copies("copy-python", () => pythonOf(onScreen()), announce);
  copies("copy-json", () => jsonOf(onScreen()), announce);
  copies("copy-link", () => location.href, announce);
  watchDownloads(complain);
  addEventListener("popstate", () => {
    if (location.search !== written) /* not for a jump within the page */
      restore();
  });
  restore();
}

/* The form stays disabled until the server has said what it can do; it is asked again until it answers. */
async function load() {
  offer(null);
  try {
    caps = await call("GET", "/v1/capabilities");
  } catch (problem) {
    say("Not connected");
    complain(problem, "page", load);
    if (problem.status !== 401)
      setTimeout(load, LOAD_RETRY_MS);
    return;
  }
  forgive();
  ready();
}

load();
