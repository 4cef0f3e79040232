/*
 * harness: the real daemon on a free port of the loopback, and Debian's Chromium looking at it.
 *
 *     const page = await open(daemon.url, { width: 360 });     // a watched page on the daemon that all tests share
 *     …
 *     await shut(page);                                        // fails the test on what was noted
 *
 *     const own = await startDaemon(["--queue-length", "1"]);
 *     …
 *     await own.stop();                                        // fails unless it ends cleanly
 *
 * A watched page notes console errors, exceptions and every request that would leave the daemon's origin (such a request
 * is not let out), and for still() what shifted. A test that provokes a failed request says so with `expected`. A page is
 * ready when it can be used; `patient: false` does not wait for that.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const BUILD = process.env.ELS_BUILD_DIR;
export const PICTURES = process.env.ELS_PICTURES_DIR || join(BUILD, "tests", "browser", "pictures");
const CHROMIUM = process.env.ELS_CHROMIUM || "/usr/bin/chromium";
export const PATIENCE = 1200 * 1000; /* ms: a hang is a failure, a slow machine is not */

/* Deadlines of the daemon that a slow machine could pass. */
const LENIENT = { ELSD_UPLOAD_TIMEOUT: "86400", ELSD_SYNC_TIMEOUT: "3600" };

mkdirSync(PICTURES, { recursive: true });

/* ---- the daemon ---- */

function ended(child) {
  return child.exitCode !== null || child.signalCode !== null ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", resolve));
}

/* `port` lets a second daemon take the place of one that has ended. */
export async function startDaemon(options = [], { port = 0 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "els-browser-"));
  const portFile = join(folder, "port");
  const child = spawn(join(BUILD, "server", "elsd"),
    ["--port", String(port), "--port-file", portFile, "--log-level", "warning", ...options],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...LENIENT } });
  let log = "";
  child.stderr.on("data", (text) => { log += text; });

  let at = "";
  for (const end = Date.now() + PATIENCE; !at && Date.now() < end && child.exitCode === null;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    try {
      at = readFileSync(portFile, "utf8").trim();
    } catch {
      /* not there yet */
    }
  }
  assert.ok(at, `elsd did not start: ${log}`);
  return {
    url: `http://127.0.0.1:${at}`,
    port: Number(at),
    folder,
    /* Ends the daemon and holds it to a clean end: status 0, nothing from a sanitizer. */
    async stop() {
      child.kill("SIGTERM");
      await ended(child);
      rmSync(folder, { recursive: true, force: true });
      assert.equal(child.exitCode, 0, `elsd ended with ${child.exitCode ?? child.signalCode}: ${log}`);
      assert.doesNotMatch(log, /Sanitizer|runtime error/);
    },
  };
}

/* ---- the daemon and the browser that all tests share ---- */

export let daemon = null;
let browser = null;

export async function start() {
  daemon = await startDaemon();
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    timeout: PATIENCE,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}

export async function stop() {
  await browser?.close();
  await daemon?.stop();
}

/* ---- pages ---- */

/* Shifts that no hand of the reader caused, as the page itself sees them. */
function watchShifts() {
  globalThis.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      if (!entry.hadRecentInput)
        globalThis.shifts.push({ value: entry.value, at: Math.round(entry.startTime),
          what: entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName) });
  }).observe({ type: "layout-shift", buffered: true });
}

export async function open(url, { width = 1280, height = 900, scheme = "light", expected = null, patient = true, ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme,
    permissions: ["clipboard-read", "clipboard-write"], ...more });
  const page = await context.newPage();
  const { origin } = new URL(url);
  const faults = [];
  page.faults = faults;
  page.setDefaultTimeout(PATIENCE);
  await page.addInitScript(watchShifts);
  await context.route((to) => /^https?:$/.test(to.protocol) && to.origin !== origin, (route) => {
    faults.push(`a request left the host: ${route.request().url()}`);
    return route.abort();
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected?.test(`${message.text()} ${message.location().url}`))
      faults.push(`console ${message.type()}: ${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => faults.push(`exception: ${error.stack}`));
  await page.goto(url);
  if (patient)
    await page.waitForFunction(() => !document.querySelector("#go").disabled);
  return page;
}

/* Closes a watched page; whatever it noted fails the test. */
export async function shut(page) {
  await page.context().close();
  assert.deepEqual(page.faults, []);
}

/* Nothing has moved by itself since the page was opened. */
export async function still(page) {
  assert.deepEqual(await page.evaluate(() => globalThis.shifts), []);
}

/* ---- what tests do again and again ---- */

/* A run that is over in a moment: few steps over few pictures of the bank. `more` adds to the address. */
export function quick(more = "", at = daemon) {
  return `${at.url}/?label=3&max_samples=40&num_inference_steps=8&scales=5&seed=11${more}`;
}

/* The run has ended and the finished picture is on screen. */
export async function finish(page) {
  await page.waitForFunction(() => /^Done/.test(document.querySelector("#state").textContent)
    && /images\/\d+$/.test(document.querySelector("#picture").dataset.frame));
}

export async function make(page) {
  await page.click("#go");
  await finish(page);
}

/* Does `act`, and waits until an element has had this text, or this value of an attribute, if only for a moment. */
export async function shown(page, selector, value, act, attribute = null) {
  await page.evaluate(([of, wanted, name]) => {
    const element = document.querySelector(of);
    element.hasShown = false;
    new MutationObserver(() => {
      element.hasShown ||= (name ? element.getAttribute(name) : element.textContent) === wanted;
    }).observe(element, { attributes: true, childList: true, characterData: true, subtree: true });
  }, [selector, value, attribute]);
  await act();
  await page.waitForFunction((of) => document.querySelector(of).hasShown, selector);
}

/* Clicks a button that copies; what is in the clipboard then. */
export async function copied(page, what) {
  await shown(page, `#copy-${what}`, "Copied", () => page.click(`#copy-${what}`));
  return page.evaluate(() => navigator.clipboard.readText());
}

export async function picture(page, name) {
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

const axe = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

/* No serious or critical violation on the page as it stands. */
export async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(" ")}`), []);
}
