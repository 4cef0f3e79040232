/*
 * main: ties the form, the running job and the viewer together, and keeps the address in step with the screen.
 *
 * Where truth lives: settings in the form, the place (image, step, view) in the viewer, the run in `run`. The
 * address is written from these three and read only on load and on back or forward.
 */
import { call, inWords } from "./api.js";
import { Form, rollSeed, settingsOf } from "./form.js";
import { follow } from "./job.js";
import * as link from "./link.js";
import { copies, curlOf, offer } from "./take.js";
import { Viewer } from "./viewer.js";

const byId = (id) => document.getElementById(id);
const SHEET = 64; /* pictures of the bank that are shown */
const LOAD_RETRY_MS = 4000;
const XT_LIMIT = 4000; /* pictures × steps for which the noisy pictures are kept too */
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let caps, form;
let opening = 0; /* serial: only the last address that was opened, or run that was made, may come on screen */
const viewer = new Viewer(moved);
/* The run on screen: { id, job, settings, body, following }. `job` is its last document, `settings` the form's when it
 * was made (the reader may have changed them since), `body` what was asked, as text. */
let run = null;

/* ---- saying things ---- */

function say(text) {
  byId("state").textContent = text;
}

function announce(text) {
  byId("live").textContent = text;
}

function complain(problem, what) {
  const [title, detail] = typeof problem === "string" ? [problem, ""] : inWords(problem, what);
  const box = byId("problem");
  if (!box.hidden && box.textContent === title + detail)
    return; /* said already; screen readers would hear it again */
  const heading = document.createElement("strong");
  heading.textContent = title;
  box.replaceChildren(heading, detail);
  box.hidden = false;
}

function forgive() {
  byId("problem").hidden = true;
}

function seconds(value) {
  if (value < 1)
    return "under 1\u00a0s";
  return value < 90 ? `${Math.round(value)}\u00a0s` : `${Math.round(value / 60)}\u00a0min`;
}

/* ---- the address ---- */

let shown = ""; /* the part of the address that this page last wrote or read */

function address(push = false) {
  const place = run?.id ? { job: run.id } : null;
  if (run?.job?.status === "succeeded") {
    const { image, step, of } = viewer.place;
    const last = run.job.result.steps.length;
    Object.assign(place, { image: image || null, step: step < last ? step : null, of: of === "xt" ? of : null });
  }
  const search = link.write(run?.settings ?? form.settings, form.defaults, place);
  if (search !== shown)
    history[push ? "pushState" : "replaceState"](null, "", search);
  shown = search;
}

let addressTimer = 0;

/* Browsers limit how often the address may change; scrubbing would exceed that. */
function addressSoon() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(address, 250);
}

function moved(place) {
  if (run?.job?.status === "succeeded")
    offer(run.job, place.image);
  addressSoon();
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

async function make() {
  if (running() || run?.sending)
    return;
  if (run?.body === JSON.stringify(form.request))
    form.seed = rollSeed(); /* the same settings would only draw the same picture */
  const mine = ++opening;
  forgive();
  form.clearErrors();
  const { settings, request } = form;
  const body = JSON.stringify(request);
  const outputs = request.num_images * request.num_inference_steps <= XT_LIMIT ? ["image", "x0", "xt"] : ["image", "x0"];
  const before = run;
  run = { ...before, sending: true };
  buttons();
  say("Asking…");
  let job = null, problem = null;
  try {
    job = await call("POST", "/v1/jobs", { ...request, outputs });
  } catch (thrown) {
    problem = thrown;
  }
  if (mine !== opening)
    return; /* the reader has gone elsewhere */
  if (problem) {
    run = before;
    say("Not made.");
    const marked = form.showErrors(problem.errors);
    complain(marked ? "These settings do not work. See what is marked." : problem);
    buttons();
    return;
  }
  run = { id: job.id, job, settings, body };
  offer(null);
  viewer.live(request.num_images, request.seed);
  byId("words").textContent = "Watch the machine’s guess of the clean picture get sharper, step by step.";
  watch();
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
  shown = location.search;
  const { settings, place } = link.read(shown);
  form.settings = place || Object.keys(settings).length ? { ...form.defaults, ...settings } : form.first;
  if (form.refused.length)
    complain(`This server does not have ${form.refused.join(", ")}.`);
  settled();
  if (!place) {
    viewer.empty(form.bank?.shape ?? [1, 32, 32]);
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
    viewer.empty(form.bank?.shape ?? [1, 32, 32]);
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
    viewer.live(job.params.num_images, job.params.seed);
    watch();
  } else {
    if (job.status !== "succeeded")
      viewer.empty(shapeOf(job.params.bank));
    finished(job, place);
  }
}

/* What follows from the settings: the sheet of the bank, the button. */
function settled() {
  const { bank, label } = form.settings;
  const sheet = byId("sheet");
  const url = bank ? `/v1/banks/${encodeURIComponent(bank)}/sheet?limit=${SHEET}${label === null ? "" : `&label=${label}`}` : "";
  if (url && sheet.dataset.url !== url) {
    sheet.dataset.url = url;
    sheet.hidden = true;
    sheet.src = url;
    const name = label === null ? "" : ` of class “${form.bank.classes[label]}”`;
    sheet.alt = `Pictures of the bank ${bank}${name}`;
    const all = form.bank.num_images <= SHEET && label === null;
    byId("sheet-note").textContent = `${all ? "The" : "Some of the"} ${bank} pictures${name}. Everything the machine draws is put together from small patches of these.`;
  }
  buttons();
}

function ready() {
  byId("version").textContent = `${caps.version} (${caps.kernel} kernel)`;
  form = new Form(caps, () => {
    settled();
    if (!run)
      addressSoon();
  });
  byId("make").addEventListener("submit", (event) => {
    event.preventDefault();
    make();
  });
  byId("sheet").addEventListener("load", () => { byId("sheet").hidden = false; });
  byId("cancel").addEventListener("click", cancel);
  byId("defaults").addEventListener("click", () => {
    form.settings = { ...form.defaults, seed: form.settings.seed };
    settled();
  });
  copies("copy-curl", () => curlOf(run?.job?.params ?? form.request), announce);
  copies("copy-link", () => location.href, announce);
  addEventListener("popstate", () => {
    if (location.search !== shown) /* not for a jump within the page */
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
    complain(problem);
    setTimeout(load, LOAD_RETRY_MS);
    return;
  }
  forgive();
  ready();
}

load();
