/*
 * readme: the two screenshots of the README, from the real page: tests/browser/run.sh BUILD_DIR --readme
 */
import { fileURLToPath } from "node:url";
import { daemon, finish, make, open, shut, start, stop } from "./harness.js";

const folder = fileURLToPath(new URL("../../docs/pictures/", import.meta.url));

async function take(name, address, options, arrange) {
  const page = await open(`${daemon.url}/${address}`, { width: 1280, height: 860, ...options });
  await make(page);
  await page.waitForFunction(() => /pieces? from/.test(document.querySelector("#f-pieces").textContent));
  await arrange(page);
  await finish(page);
  await page.mouse.move(0, 0);
  await page.waitForLoadState("networkidle");
  await page.waitForTimeout(500); /* transitions */
  await page.screenshot({ path: `${folder}${name}.png` });
  await shut(page);
}

await start();
try {
  await take("page", "?label=3&seed=20", {}, (page) => page.click("#show-pieces"));
  await take("page-dark", "?bank=shapes&label=3&seed=5", { scheme: "dark" }, () => {});
} finally {
  await stop();
}
