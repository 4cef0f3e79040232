/*
 * Every browser test in one process, so that they share a browser: node --test-reporter=tap all.js
 */
import { after, before } from "node:test";
import { startBrowser, stopBrowser } from "./harness.js";

before(startBrowser);
after(stopBrowser);

await import("./test_make.js");
