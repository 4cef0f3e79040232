/*
 * What goes wrong is said in words: settings that do not work, a full queue, a server that is away or wants a key, a run
 * that is gone.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { daemon, make, open, quick, shut, startDaemon } from "./harness.js";

const problem = (page) => page.textContent("#problem");

test("a setting that the server refuses is marked", async () => {
  const page = await open(`${daemon.url}/?machine=els&scales=41`, { expected: /422/ });
  await page.click("#go");
  await page.waitForSelector(".field-error");
  assert.match(await problem(page), /do not work/);
  assert.equal(await page.getAttribute("#scales", "aria-invalid"), "true");
  await shut(page);
});

test("a full queue says so, a waiting run tells its place, and cancelling makes room", async () => {
  const own = await startDaemon(["--queue-length", "1"]);
  const slow = `${own.url}/?num_inference_steps=3000&seed=1`; /* a much smaller job would be let past */
  const first = await open(slow);
  await first.click("#go");
  await first.waitForFunction(() => /^Step/.test(document.querySelector("#state").textContent));
  const second = await open(slow);
  await second.click("#go");
  await second.waitForFunction(() => /queue/.test(document.querySelector("#state").textContent));
  const third = await open(quick("", own), { expected: /429/ });
  await third.click("#go");
  await third.waitForFunction(() => !document.querySelector("#problem").hidden);
  assert.match(await problem(third), /busy.*again in/);

  await first.click("#cancel");
  await first.waitForFunction(() => document.querySelector("#state").textContent === "Cancelled");
  await second.waitForFunction(() => /^Step/.test(document.querySelector("#state").textContent));
  await second.click("#cancel");
  await second.waitForFunction(() => document.querySelector("#state").textContent === "Cancelled");
  await make(third);
  assert.ok(await third.isHidden("#problem"));
  for (const page of [first, second, third])
    await shut(page);
  await own.stop();
});

test("a run that is gone is said, and its settings are kept", async () => {
  const page = await open(`${daemon.url}/?seed=77&job=00000000000000000000000000000000`, { expected: /404/ });
  await page.waitForFunction(() => !document.querySelector("#problem").hidden);
  assert.match(await problem(page), /no longer kept.*same seed/);
  assert.equal(await page.inputValue("#seed"), "77");
  await shut(page);
});

test("a server that is away is said; when it is back, work goes on", async () => {
  let other = await startDaemon();
  const page = await open(quick("", other), { expected: /ERR_CONNECTION|Failed to fetch/ });
  await other.stop();
  await page.click("#go");
  await page.waitForFunction(() => !document.querySelector("#problem").hidden);
  assert.match(await problem(page), /does not answer.*elsd/);
  other = await startDaemon([], { port: other.port });
  await make(page);
  assert.ok(await page.isHidden("#problem"));
  await shut(page);
  await other.stop();
});
