/*
 * Explain: for every pixel the training patch that it came from, and what the whole picture is made of. What the page says is
 * held against the server's own mosaic and the training picture itself.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, daemon, make, open, picture, quick, shut } from "./harness.js";

async function answer(page, path) {
  const id = new URL(page.url()).searchParams.get("job");
  return (await fetch(`${daemon.url}/v1/jobs/${id}${path}`)).json();
}

const explained = (page) => page.waitForFunction(() => /pieces? from/.test(document.querySelector("#f-pieces").textContent));

/* After a run the page glides to the picture: its place is the same for some frames, however long those take. */
const still = (page) => page.evaluate(() => new Promise((resolve) => {
  const place = () => document.querySelector("#picture").getBoundingClientRect().top;
  let before = place(), frames = 0;
  const look = () => {
    const now = place();
    frames = now === before ? frames + 1 : 0;
    before = now;
    if (frames === 15)
      resolve();
    else
      requestAnimationFrame(look);
  };
  look();
}));

/* Puts the pointer on a pixel of a 32×32 picture. */
async function point(page, { y, x }, how = "hover") {
  await still(page);
  const { width, height } = await page.locator("#picture").boundingBox();
  await page[how]("#picture", { position: { x: ((x + 0.5) / 32) * width, y: ((y + 0.5) / 32) * height }, force: true });
}

/* A pixel that one patch decided, away from the one that is marked already. */
function decided({ height, width, entropy }, not) {
  const at = entropy.findIndex((nats, i) => Math.exp(nats) < 4 && i !== not);
  assert.ok(at >= 0, "no pixel was decided by one patch");
  return { y: Math.floor(at / width), x: at % width, at, height };
}

test("a pixel's source is the server's, and looks like the pixel", async () => {
  const page = await open(quick());
  await make(page);
  await explained(page);
  const mosaic = await answer(page, "/images/0/mosaic");
  const pixel = decided(mosaic);
  await point(page, pixel);
  const { image, row, column, weight } = mosaic.candidates;
  const best = pixel.at * mosaic.top;
  assert.match(await page.textContent("#origin-words"), new RegExp(`training picture ${image[best].toLocaleString("en")}\\b`));
  assert.match(await page.textContent("#origin-words"), new RegExp(`\\b${Math.round(100 * weight[best])}(\\.\\d)?\\s%`));
  assert.match(await page.getAttribute("#origin", "aria-label"), new RegExp(`row ${row[best]}, column ${column[best]}$`));
  assert.equal(await page.getAttribute("#origin", "data-image"), String(image[best]));
  for (let k = 0; k < 3; k++)
    assert.equal(await page.getAttribute(`#runners li:nth-child(${k + 1}) canvas`, "data-image"), String(image[best + k + 1]));

  await page.waitForFunction(() => document.querySelector("#origin").width === 32);
  const [drawn, source] = await page.evaluate(({ y, x, row: i, column: j }) => {
    const shade = (id, ...place) => {
      const copy = new OffscreenCanvas(32, 32).getContext("2d");
      copy.drawImage(document.querySelector(id), 0, 0);
      return copy.getImageData(...place, 1, 1).data[0];
    };
    return [shade("#picture", x, y), shade("#origin", j, i)];
  }, { ...pixel, row: row[best], column: column[best] });
  assert.ok(Math.abs(drawn - source) < 40, `the pixel is ${drawn}, its source ${source}`);
  await accessible(page);
  await shut(page);
});

test("the pieces, local consistency and the nearest training picture", async () => {
  const page = await open(quick());
  await make(page);
  await explained(page);
  const { local_consistency: share, nearest } = (await answer(page, "")).result.images[0];
  const told = Number.parseFloat(await page.textContent("#f-consistent"));
  assert.ok(share > 0 && Math.abs(told - 100 * share) <= 0.5, `${told} % for ${share}`);
  assert.equal(await page.textContent("#f-nearest"),
    `no. ${nearest.bank_index.toLocaleString("en")} · ${nearest.distance.toFixed(3)} apart`);
  assert.equal(await page.getAttribute("#nearest", "data-image"), String(nearest.bank_index));

  assert.ok(await page.isHidden("#map"));
  await page.click("#show-pieces");
  const [coloured, colours] = await page.evaluate(() => {
    const { data } = document.querySelector("#map").getContext("2d").getImageData(0, 0, 32, 32);
    const pixels = Array.from({ length: 1024 }, (_, i) => [...data.subarray(4 * i, 4 * i + 4)]).filter(([, , , alpha]) => alpha);
    return [pixels.length, new Set(pixels.map(([r, g, b]) => `${r >> 4},${g >> 4},${b >> 4}`)).size];
  });
  assert.ok(coloured > 20 && colours > 3, `${coloured} coloured pixels, ${colours} colours`);
  await picture(page, "pieces");
  await page.click("#show-pieces");
  assert.ok(await page.isHidden("#map"));
  await shut(page);
});

test("by keyboard and by touch", async () => {
  const page = await open(quick(), { width: 360, height: 740, hasTouch: true, isMobile: true });
  await make(page);
  await explained(page);
  const words = () => page.textContent("#origin-words");
  const mosaic = await answer(page, "/images/0/mosaic");
  const pixel = decided(mosaic);
  await point(page, pixel, "tap");
  const tapped = await words();
  assert.match(tapped, new RegExp(`training picture ${mosaic.candidates.image[pixel.at * mosaic.top].toLocaleString("en")}\\b`));
  await page.focus("#frame");
  await page.keyboard.press("ArrowDown");
  const moved = await page.textContent("#live");
  assert.match(moved, new RegExp(`^Row ${pixel.y + 1}, column ${pixel.x}\\.`));
  await page.keyboard.press("ArrowUp");
  assert.equal(await words(), tapped);

  await page.tap("#source-bank");
  assert.ok(await page.isVisible("#sheet"));
  await page.tap("#source-patch");
  assert.ok(await page.isVisible("#origin"));
  await shut(page);
});

test("the sources of an earlier step are found when asked for", async () => {
  const page = await open(`${daemon.url}/?label=3&max_samples=20&num_inference_steps=4&scales=5&seed=4`);
  await make(page);
  await explained(page);
  await page.click("#explain-steps");
  await page.waitForFunction(() => document.querySelector("#explain-steps").disabled);
  await explained(page);
  const step = await answer(page, "/images/0/mosaic?step=0");
  await Promise.all([page.waitForResponse(/mosaic\?step=0/), page.click("#strip-x0", { position: { x: 5, y: 10 } })]);
  const pixel = { y: 16, x: 16, at: 16 * 32 + 16 };
  await point(page, pixel);
  await page.waitForFunction((image) => document.querySelector("#origin").dataset.image === image,
    String(step.candidates.image[pixel.at * step.top]));
  await shut(page);
});

test("of a large bank the sources are looked for when asked for", async () => {
  const page = await open(`${daemon.url}/?num_inference_steps=3&scales=3&machine=ls&seed=6`);
  await make(page);
  assert.ok(await page.isVisible("#sheet"));
  const drawn = await page.evaluate(() => document.querySelector("#picture").toDataURL());
  await page.click("#explain-it");
  await explained(page);
  assert.equal(await page.inputValue("#seed"), "6");
  assert.ok(await page.isVisible("#origin"));
  assert.equal(await page.evaluate(() => document.querySelector("#picture").toDataURL()), drawn, "the same picture again");
  await shut(page);
});
