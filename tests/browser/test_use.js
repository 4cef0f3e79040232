/*
 * Use: what is copied and downloaded does what it says: the command and the program are run, and give the picture that is
 * on screen.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { copied, daemon, make, open, quick, shut } from "./harness.js";

const execute = promisify(execFile);

async function downloaded(page, what) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(`#get-${what}`)]);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

/* The compressed pixels of a PNG: its text says which outputs were asked for, too, and so may differ. */
function pixelsOf(png) {
  const data = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at))
    if (png.toString("latin1", at + 4, at + 8) === "IDAT")
      data.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  assert.ok(data.length > 0);
  return hash(Buffer.concat(data));
}

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

test("curl, Python and JSON give the picture on screen", async () => {
  const page = await open(quick());
  await make(page);
  const id = new URL(page.url()).searchParams.get("job");
  const job = await (await fetch(`${daemon.url}/v1/jobs/${id}`)).json();
  const png = (await downloaded(page, "png")).bytes;
  assert.equal(hash(png), job.result.images[0].sha256);

  await execute("sh", ["-c", await copied(page, "curl")], { cwd: daemon.folder });
  assert.equal(pixelsOf(readFileSync(join(daemon.folder, "picture.png"))), pixelsOf(png));

  const body = await copied(page, "json");
  const answer = await fetch(`${daemon.url}/v1/samples`, { method: "POST", body,
    headers: { "Content-Type": "application/json", Accept: "image/png" } });
  assert.equal(pixelsOf(Buffer.from(await answer.arrayBuffer())), pixelsOf(png));

  const program = join(daemon.folder, "sample.py");
  writeFileSync(program, await copied(page, "python"));
  const { stdout } = await execute("/usr/bin/python3", [program]);
  assert.match(stdout, /^\(1, 1, 32, 32\) -\d/);

  assert.equal(await copied(page, "link"), page.url());
  await shut(page);
});

test("files can be downloaded, and the interface is described", async () => {
  const page = await open(quick());
  assert.equal(await page.getAttribute("#get-png", "href"), null, "nothing to download before there is a picture");
  await make(page);
  const npy = await downloaded(page, "npy");
  assert.match(npy.name, /^els-digits-bbels-11\.npy$/);
  assert.match(npy.bytes.toString("latin1", 0, 128), /NUMPY.*'<f4'.*\(1, 1, 32, 32\)/);
  const tensors = (await downloaded(page, "tensors")).bytes;
  const header = JSON.parse(tensors.toString("utf8", 8, 8 + Number(tensors.readBigUInt64LE(0))));
  assert.ok("images" in header && "x0" in header && "xt" in header);
  assert.equal((await downloaded(page, "large")).bytes.readUInt32BE(16), 512, "the width of the large PNG");
  const links = await page.locator("footer a").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  assert.deepEqual(links, ["/openapi.json", "/els.py", "/notebook/els.ipynb"]);
  const [api, client, notebook] = await Promise.all(links.map(async (link) => (await fetch(daemon.url + link)).text()));
  assert.equal(JSON.parse(api).openapi.slice(0, 3), "3.1");
  assert.match(client, /^class Client\b/m);
  assert.ok(JSON.parse(notebook).cells.length > 0);
  await shut(page);
});
