/*
 * Watch: the film of a run, its plots, the window over the picture, scrubbing and playing, by hand and by keyboard.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PATIENCE, accessible, daemon, make, open, quick, shut } from "./harness.js";

const words = (page) => page.textContent("#words");
const scrub = (page, step) => page.evaluate((value) => {
  const slider = document.querySelector("#step");
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}, step);

/* How many different values the pixels of each column of a strip have: an empty or flat one has one. */
const shades = (page, strip) => page.evaluate((id) => {
  const canvas = document.querySelector(id);
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return Array.from({ length: width / height }, (_, column) => {
    const { data } = copy.getImageData(column * height, 0, height, height);
    return new Set(data.filter((_, i) => i % 4 === 0)).size;
  });
}, strip);

test("the film shows every step, noisy and guessed", async () => {
  const page = await open(quick()); /* 8 steps: 7 columns and the finished picture */
  await make(page);
  const end = Date.now() + PATIENCE;
  for (const strip of ["#strip-xt", "#strip-x0"]) {
    let counts = [];
    while (!(counts.length === 8 && counts.every((n) => n > 1))) {
      await page.waitForTimeout(50);
      counts = await shades(page, strip);
      assert.ok(Date.now() < end, `${strip}: ${counts}`);
    }
  }
  assert.ok((await shades(page, "#strip-xt"))[0] > 60, "x_T is noise");
  await shut(page);
});

test("a column of the film, the slider and the arrow keys go to a step", async () => {
  const page = await open(quick());
  await make(page);
  const { width, height } = await page.locator("#strip-x0").boundingBox();
  await page.click("#strip-x0", { position: { x: (2.5 / 8) * width, y: height / 2 } });
  assert.equal(await page.inputValue("#step"), "2");
  assert.match(await words(page), /Step 3 of 7.*5×5 window/);
  assert.equal(await page.textContent("#v-p"), "5×5");

  await scrub(page, 4);
  assert.match(await words(page), /Step 5 of 7/);
  await page.focus("#film-scroll");
  await page.keyboard.press("ArrowLeft");
  assert.match(await words(page), /Step 4 of 7/);
  await page.click("#of-xt");
  assert.match(await words(page), /about \d+\s% picture, the rest noise/);
  await page.waitForURL(/step=3&of=xt/);
  await accessible(page);
  await shut(page);
});

test("play runs from the noise to the picture", async () => {
  const page = await open(quick());
  await make(page);
  /* The page itself tells where its slider is put; a timer of ours could miss steps. */
  const seen = await page.evaluate(() => new Promise((resolve) => {
    const slider = document.querySelector("#step");
    const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
    const steps = [];
    Object.defineProperty(slider, "value", { configurable: true, get, set(value) {
      set.call(this, value);
      steps.push(Number(get.call(this)));
      if (steps.at(-1) === 7)
        resolve(steps);
    } });
    document.querySelector("#play").click();
  }));
  assert.deepEqual([...new Set(seen)], [0, 1, 2, 3, 4, 5, 6, 7]);
  await page.waitForFunction(() => document.querySelector("#play").getAttribute("aria-pressed") === "false");
  await shut(page);
});

test("the window over the picture shrinks as time runs", async () => {
  const page = await open(`${daemon.url}/?label=3&max_samples=40&seed=2&scales=mnist-resnet-zeros`);
  await make(page);
  const sides = [];
  for (const step of [0, 9, 18]) {
    await scrub(page, step);
    sides.push(Number(/h(\d+)v/.exec(await page.locator("#marks .window").getAttribute("d"))[1]));
  }
  assert.deepEqual(sides, [15, 11, 3]);
  await page.click("#show-window");
  assert.equal(await page.locator("#marks path").count(), 0);
  await shut(page);
});

test("the plots tell the noise level, the entropy and the patches of the marked pixel", async () => {
  const page = await open(quick());
  await make(page);
  await page.waitForFunction(() => document.querySelector("#plot-entropy .curve"));
  for (const plot of ["beta", "p", "patches", "entropy"])
    assert.equal(await page.locator(`#plot-${plot} .area`).count(), 1, plot);
  await scrub(page, 0);
  assert.ok(Number(await page.textContent("#v-beta")) > 0.9);
  const told = async () => Number.parseFloat((await page.textContent("#v-entropy")));
  const entropy = await told();
  assert.ok(entropy > 0 && entropy < Math.log(40 * 32 * 32));
  const effective = Number((await page.textContent("#v-patches")).replace(",", ""));
  assert.ok(Math.abs(effective / Math.exp(entropy) - 1) < 0.05, `${effective} is not e^${entropy}`);

  await page.focus("#frame");
  for (let i = 0; i < 9; i++)
    await page.keyboard.press("ArrowUp");
  assert.notEqual(await told(), entropy);
  assert.equal(await page.inputValue("#step"), "0", "arrow keys in the picture move the pixel, not the step");
  await shut(page);
});

test("several pictures stand side by side", async () => {
  const page = await open(quick("&num_images=3"));
  await make(page);
  assert.equal(await page.locator("#tiles button").count(), 3);
  await page.click("#tiles button:nth-child(3)");
  await page.waitForURL(/image=2/);
  assert.match(await page.getAttribute("#picture", "aria-label"), /Picture 3 of 3/);
  await shut(page);
});
