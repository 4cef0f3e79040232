/*
 * Every browser test in one process, so that they share a browser; or the named parts of them:
 *
 *     node --test-reporter=tap all.js [make watch …]
 */
import { after, before } from "node:test";
import { start, stop } from "./harness.js";

before(start);
after(stop);

const parts = process.argv.slice(2);
for (const part of parts.length ? parts : ["make", "watch", "explain", "compare", "use", "tour", "errors", "key", "follow"])
  await import(`./test_${part}.js`);
