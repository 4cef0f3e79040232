/*
 * web/js/job.js by itself, without a page: what it makes of the events of a job.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

/* What a page has. */
globalThis.matchMedia ??= () => ({ matches: false });
globalThis.sessionStorage ??= { getItem: () => null };
const { follow } = await import("../../web/js/job.js");

const JOB = { id: "a", status: "running", params: { bank: "digits" }, progress: {} };

test("a state whose parameters are too long for an event is asked for at the job's own address", async () => {
  const asked = [], states = [], { fetch } = globalThis;
  globalThis.fetch = async (address, { signal } = {}) => {
    asked.push(String(address));
    if (!String(address).endsWith("/events"))
      return new Response(JSON.stringify(JOB), { headers: { "Content-Type": "application/json" } });
    const text = `event: state\nid: 1\ndata: ${JSON.stringify({ ...JOB, params: null })}\n\n`;
    const body = new ReadableStream({
      start(stream) {
        stream.enqueue(new TextEncoder().encode(text));
        signal.addEventListener("abort", () => stream.close());
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  };
  const job = await new Promise((resolve, reject) => {
    const following = follow("a", { state(state) { states.push(state); following.close(); resolve(state); },
                                    gone: reject, end: reject, lost() {}, back() {}, progress() {}, preview() {} });
  });
  globalThis.fetch = fetch;
  assert.deepEqual(job.params, JOB.params);
  assert.equal(states.length, 1);
  assert.ok(asked[0].endsWith("/v1/jobs/a/events") && asked[1].endsWith("/v1/jobs/a"), String(asked));
});
