/*
 * Compare: the same noise through other machines, other windows, and without a part of the bank.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, daemon, finish, open, picture, quick, shut } from "./harness.js";

async function compare(page, kind) {
  await page.check(`#compare [value=${kind}]`, { force: true });
  await page.evaluate(() => document.querySelectorAll("#compared figure").forEach((figure) => figure.remove()));
  await page.click("#compare-go");
  await drawn(page);
}

/* Every case has its picture (and its link), and the difference, if any, is told. */
const drawn = (page) => page.waitForFunction(() => {
  const figures = [...document.querySelectorAll("#compared figure")];
  return figures.length > 1 && figures.every((figure) => figure.querySelector("a") || /differ/.test(figure.textContent));
});

const titles = (page) => page.locator("#compared strong").allTextContents();
const pixels = (page) => page.evaluate(() =>
  [...document.querySelectorAll("#compared canvas")].map((canvas) => canvas.toDataURL()));

test("the same noise through four machines", async () => {
  const page = await open(quick());
  await compare(page, "machines");
  assert.equal((await titles(page)).length, 4);
  assert.equal(new Set(await pixels(page)).size, 4, "four machines, four pictures");
  await accessible(page);
  await picture(page, "compare");

  const before = await pixels(page);
  const again = await open(page.url()); /* the address holds the comparison */
  await drawn(again);
  assert.deepEqual(await pixels(again), before);
  await shut(again);

  await page.click("#compared figure:nth-child(2) a");
  await finish(page);
  assert.equal(await page.inputValue("#machine"), "ls");
  await shut(page);
});

test("the same noise through different windows", async () => {
  const page = await open(quick());
  await compare(page, "windows");
  assert.deepEqual(await titles(page), ["3×3", "7×7", "15×15", "Shrinking"]);
  assert.equal(new Set(await pixels(page)).size, 4);
  await shut(page);
});

test("with and without a class, with and without a picture", async () => {
  const page = await open(`${daemon.url}/?num_inference_steps=5&scales=5&seed=3&max_samples=200&machine=ls`);
  await page.check("#compare [value=without]", { force: true });
  await page.selectOption("#left", "8");
  await compare(page, "without");
  assert.deepEqual(await titles(page), ["With everything", "Without class 8", "Difference"]);
  const [whole, , difference] = await pixels(page);
  assert.match(await page.textContent("#difference"), /\d+ of 1024 pixels differ/);
  assert.notEqual(difference, whole);

  await page.selectOption("#left", "picture");
  await page.fill("#left-picture", "17");
  await compare(page, "without");
  assert.equal((await titles(page))[1], "Without picture 17");
  assert.equal((await pixels(page))[0], whole, "the same noise and the whole bank: the same picture");
  await page.click("#compared figure:nth-child(2) a");
  await finish(page);
  assert.equal(await page.inputValue("#exclude_images"), "17");
  await shut(page);
});
