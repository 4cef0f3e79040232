/*
 * Make: the first visit, the first picture and what a reader does around them. The timing line is printed for people;
 * nothing is asserted about time. A picture may be finished before a slow browser has drawn a preview: then a longer run is
 * looked at.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, daemon, finish, make, open, picture, quick, shut, still } from "./harness.js";

const PAGE_BYTES = 150_000;

test("the page is small, keeps to itself and can be read by everyone", async () => {
  const page = await open(daemon.url);
  await page.waitForLoadState("networkidle");
  const sizes = await page.evaluate(() => [...performance.getEntriesByType("navigation"),
    ...performance.getEntriesByType("resource")].map(({ name, decodedBodySize }) => [name, decodedBodySize]));
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  console.log(`# page: ${total} bytes in ${sizes.length} files`);
  assert.ok(total > 20_000 && total <= PAGE_BYTES, `${total} bytes: ${JSON.stringify(sizes)}`);
  await accessible(page);
  await still(page);
  await shut(page);
});

test("one click makes a picture, with previews on the way and without a shift", async () => {
  const addresses = [process.env.ELS_SANITIZED ? quick() : daemon.url,
    ...[100, 1000].map((steps) => quick().replace(/(?<=num_inference_steps=)\d+/, steps))];
  let previews = 0;
  for (const address of addresses) {
    previews = await watched(address);
    if (previews > 0)
      break;
  }
  assert.ok(previews > 0);
});

/* Makes the picture of this address and looks at it: how many previews were drawn. */
async function watched(address) {
  const page = await open(address);
  await page.evaluate(() => {
    const canvas = document.querySelector("#picture");
    const draw = CanvasRenderingContext2D.prototype.drawImage;
    globalThis.drawn = [];
    CanvasRenderingContext2D.prototype.drawImage = function (...all) {
      if (this.canvas === canvas)
        globalThis.drawn.push(performance.now());
      return draw.apply(this, all);
    };
    document.querySelector("#go").addEventListener("click", () => { globalThis.clicked = performance.now(); });
    new MutationObserver(() => {
      if (canvas.dataset.frame)
        globalThis.finished ??= performance.now();
    }).observe(canvas, { attributes: true });
  });
  await make(page);
  const { clicked, drawn, finished } = await page.evaluate(() => ({ clicked, drawn, finished }));
  const previews = drawn.filter((time) => time < finished).length - 1;
  const since = (time) => `${((time - clicked) / 1000).toFixed(2)} s`;
  console.log(`# ${address.includes("?") ? "a small picture" : "the first picture"}: from click to the first preview`
    + ` ${since(drawn[0])}, to the finished picture ${since(finished)}, ${previews} previews`);
  assert.match(await page.textContent("#state"), /^Done/);
  await accessible(page);
  await picture(page, "desktop");
  await still(page);
  await shut(page);
  return previews;
}

test("phone and dark", async () => {
  for (const [name, options] of Object.entries({
    phone: { width: 360, height: 740, hasTouch: true, isMobile: true },
    dark: { scheme: "dark" },
    wide: { width: 1920, height: 1080 },
  })) {
    const page = await open(quick(), options);
    await make(page);
    const [needed, given] = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return [scrollWidth, clientWidth];
    });
    assert.ok(needed <= given, `${name}: ${needed} pixels wide on a screen of ${given}`);
    await accessible(page);
    await picture(page, name);
    await still(page);
    await shut(page);
  }
});

test("an address names the picture; back and forward walk through what was made", async () => {
  const page = await open(quick());
  await make(page);
  const first = page.url();
  const drawn = (of) => of.evaluate(() => document.querySelector("#picture").toDataURL());
  const pixels = await drawn(page);
  assert.match(first, /[?&]job=/);

  await make(page); /* the same settings: another seed */
  assert.notEqual(await page.inputValue("#seed"), "11");
  assert.notEqual(await drawn(page), pixels);
  await page.goBack();
  await page.waitForFunction((wanted) => document.querySelector("#picture").toDataURL() === wanted, pixels);
  assert.equal(await page.inputValue("#seed"), "11");

  const other = await open(first);
  await finish(other);
  await other.waitForFunction((wanted) => document.querySelector("#picture").toDataURL() === wanted, pixels);
  assert.equal(await other.inputValue("#num_inference_steps"), "8");
  await shut(other);
  await shut(page);
});

test("a run can be cancelled, and the settings stay", async () => {
  const page = await open(`${daemon.url}/?num_inference_steps=2000&seed=5`); /* minutes at least */
  await page.click("#go");
  await page.click("#cancel");
  await page.waitForFunction(() => document.querySelector("#state").textContent === "Cancelled");
  assert.equal(await page.inputValue("#num_inference_steps"), "2000");
  await shut(page);
});
