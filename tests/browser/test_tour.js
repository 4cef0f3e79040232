/*
 * The tour: from two plain pictures to what a picture is made of, on the real page.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, daemon, finish, open, picture, shown, shut } from "./harness.js";

test("the tour begins with two pictures, ends with a comparison and names the paper", async () => {
  const page = await open(daemon.url);
  await page.click("#tour-start");
  await page.waitForSelector("#tour-count:text('1 of 5')");
  await page.click("#tour-act");
  await finish(page);
  assert.equal(await page.inputValue("#bank"), "two-tone");
  const shades = await page.evaluate(() => {
    const { data } = document.querySelector("#picture").getContext("2d").getImageData(0, 0, 32, 32);
    return [data.filter((value, i) => i % 4 === 0 && value < 8).length, data.filter((value, i) => i % 4 === 0 && value > 247).length];
  });
  assert.ok(shades[0] > 100 && shades[1] > 100 && shades[0] + shades[1] > 1000, `black and white: ${shades}`);
  await accessible(page);
  await picture(page, "tour");

  await page.click("#tour-next");
  await shown(page, "#play", "true", () => page.click("#tour-act"), "aria-pressed");
  await page.click("#tour-next");
  await page.click("#tour-act");
  await finish(page);
  assert.equal(await page.inputValue("#bank"), "digits");
  await page.click("#tour-next");
  await page.click("#tour-next");
  await page.waitForURL(/tour=5/);
  await page.click("#tour-act");
  await page.waitForSelector("#compared figure");
  await page.click("#tour-next");
  assert.ok(await page.isHidden("#tour"));
  assert.equal(await page.getAttribute(".explain cite a", "href"), "https://arxiv.org/abs/2412.20292");
  await shut(page);

  const other = await open(`${daemon.url}/?tour=2`);
  await other.waitForSelector("#tour-count:text('2 of 5')");
  await other.click("#tour-close");
  assert.ok(await other.isHidden("#tour"));
  await shut(other);
});
