/*
 * job: follows one job from the queue to its end through the event stream.
 *
 *     const job = follow(id, { state(document) {…}, progress(progress) {…}, preview(preview) {…},
 *                              lost() {…}, back() {…}, end(document) {…}, gone(problem) {…} });
 *     job.close();
 *
 * Exactly one of end and gone is called, last, unless close() comes first. The browser reconnects a dropped
 * stream by itself; when it gives up (an answer that is not a stream), the job's own address decides what happened.
 */
import { call, Problem } from "./api.js";

const ENDS = ["succeeded", "failed", "cancelled"];
const QUEUE_POLL_MS = 2000;
const RETRY_MS = 3000;

export function follow(id, on) {
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  let stream = null, timer = 0, closed = false, away = false;

  function close() {
    closed = true;
    clearTimeout(timer);
    stream?.close();
  }

  function again(ms, action) {
    clearTimeout(timer);
    if (!closed)
      timer = setTimeout(action, ms);
  }

  function reachable(now) {
    if (closed || away === !now)
      return;
    away = !now;
    (away ? on.lost : on.back)();
  }

  /* Asks the job itself: for the final document, for the place in the queue, and when the stream is refused. */
  async function look() {
    let job;
    try {
      job = await call("GET", path);
    } catch (problem) {
      if (closed)
        return;
      if (problem instanceof Problem && (problem.status === 0 || problem.status === 503)) {
        reachable(false);
        again(RETRY_MS, look);
      } else {
        close();
        on.gone(problem);
      }
      return;
    }
    if (closed)
      return;
    reachable(true);
    if (ENDS.includes(job.status)) {
      close();
      on.end(job);
      return;
    }
    on.state(job);
    if (stream?.readyState === EventSource.CLOSED)
      again(RETRY_MS, open);
    else if (job.status === "queued")
      again(QUEUE_POLL_MS, look);
  }

  function open() {
    stream = new EventSource(`${path}/events`);
    const listen = (name, heard) => stream.addEventListener(name, (event) => {
      if (!closed && event.data)
        heard(JSON.parse(event.data));
    });
    stream.addEventListener("open", () => reachable(true));
    stream.addEventListener("error", () => {
      if (closed)
        return;
      if (stream.readyState === EventSource.CLOSED)
        look();
      else
        reachable(false);
    });
    listen("state", (job) => {
      on.state(job);
      if (job.status === "queued")
        again(QUEUE_POLL_MS, look);
    });
    listen("progress", on.progress);
    listen("preview", on.preview);
    for (const name of ENDS)
      stream.addEventListener(name, () => {
        stream.close();
        if (!closed)
          look();
      });
  }

  open();
  return { close };
}
