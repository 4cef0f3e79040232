/*
 * A server that wants a key: the page asks for it once, in words, and then works as ever, pictures, events and downloads
 * included. The key stays out of addresses and out of what is copied.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BUILD, accessible, copied, finish, open, quick, shut, startDaemon } from "./harness.js";

let own, folder, key;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "els-browser-key-"));
  const file = join(folder, "keys");
  const said = execFileSync(join(BUILD, "server", "cli", "els"), ["key", "add", file, "page"], { encoding: "utf8" });
  [key] = said.match(/\bels_[0-9a-f]{64}\b/);
  own = await startDaemon(["--keys-file", file]);
});
after(async () => {
  await own.stop();
  rmSync(folder, { recursive: true });
});

const refused = /401/;

async function answer(page, text) {
  await page.fill("#key", text);
  await page.click("#key-dialog [value=use]");
}

test("the page asks for the key, again when it is wrong, and then works", async () => {
  const page = await open(quick("", own), { expected: refused, patient: false });
  await page.waitForSelector("#key-dialog[open]");
  await accessible(page);
  await answer(page, "not-a-key");
  await page.waitForSelector("#key-refused:not([hidden])");
  await answer(page, key);
  await page.waitForFunction(() => !document.querySelector("#go").disabled);
  await page.waitForFunction(() => document.querySelector("#sheet").naturalWidth > 0);
  await page.click("#go");
  await finish(page);
  await page.waitForFunction(() => document.querySelector("#origin").width === 32);

  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#get-tensors")]);
  assert.match(download.suggestedFilename(), /\.safetensors$/);
  for (const what of ["curl", "python", "json", "link"]) {
    const text = await copied(page, what);
    assert.ok(!text.includes(key), `${what} holds the key`);
    if (what === "curl" || what === "python")
      assert.match(text, /ELS_API_KEY/);
  }
  assert.ok(!page.url().includes(key));
  await shut(page);
});

test("without the key the page says what is missing, and asks again", async () => {
  const page = await open(quick("", own), { expected: refused, patient: false });
  await page.waitForSelector("#key-dialog[open]");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("#problem").hidden);
  assert.match(await page.textContent("#problem"), /asks for a key/);
  await page.click("#problem button");
  await page.waitForSelector("#key-dialog[open]");
  await answer(page, key);
  await page.waitForFunction(() => !document.querySelector("#go").disabled);
  await shut(page);
});
