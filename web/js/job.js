/*
 * job: follows one job from the queue to its end through the event stream.
 *
 *     const job = follow(id, { state(document) {…}, progress(progress) {…}, preview(preview) {…},
 *                              lost() {…}, back() {…}, end(document) {…}, gone(problem) {…} });
 *     job.close();
 *
 * Exactly one of end and gone is called, last, unless close() comes first. The stream is read with fetch, for EventSource
 * cannot carry a key. When it breaks off, the job's own address decides what happened, and the stream is taken up again
 * behind the last event that was heard.
 */
import { call, Problem, problemOf, request } from "./api.js";

const ENDS = ["succeeded", "failed", "cancelled"];
const QUEUE_POLL_MS = 2000;
const RETRY_MS = 3000;

/* The events of one answer, as { name, id, data }; ends with the stream. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done)
      return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const event = { name: "message", id: null, data: "" };
      for (const line of text.slice(0, end).split("\n")) {
        const [, field, rest] = /^(\w*): ?(.*)$/.exec(line) ?? [];
        if (field === "event")
          event.name = rest;
        else if (field === "id" || field === "data")
          event[field] = rest;
      }
      if (event.data)
        yield event;
    }
  }
}

export function follow(id, on) {
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  const cut = new AbortController();
  let timer = 0, away = false, last = null;

  function close() {
    cut.abort();
    clearTimeout(timer);
  }

  function again(ms, action) {
    clearTimeout(timer);
    if (!cut.signal.aborted)
      timer = setTimeout(action, ms);
  }

  function reachable(now) {
    if (cut.signal.aborted || away === !now)
      return;
    away = !now;
    (away ? on.lost : on.back)();
  }

  /* Asks the job itself. With `reopen` the stream is taken up again unless the job has ended. */
  async function look(reopen) {
    let job;
    try {
      job = await call("GET", path);
    } catch (problem) {
      if (cut.signal.aborted)
        return;
      if (problem instanceof Problem && (problem.status === 0 || problem.status === 503)) {
        reachable(false);
        again(RETRY_MS, () => look(reopen));
      } else {
        close();
        on.gone(problem);
      }
      return;
    }
    if (cut.signal.aborted)
      return;
    reachable(true);
    if (ENDS.includes(job.status)) {
      close();
      on.end(job);
      return;
    }
    on.state(job);
    if (reopen)
      open();
    else if (job.status === "queued")
      again(QUEUE_POLL_MS, () => look(false));
  }

  function hear({ name, id: number, data }) {
    last = number ?? last;
    if (name === "progress" || name === "preview")
      on[name](JSON.parse(data));
    if (name === "state") {
      const job = JSON.parse(data);
      if (job.params === null) { /* too long for an event */
        look(false);
        return;
      }
      on.state(job);
      if (job.status === "queued")
        again(QUEUE_POLL_MS, () => look(false));
    }
  }

  async function open() {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await request(`${path}/events`, { headers, signal: cut.signal });
      if (!response.ok)
        throw await problemOf(response);
      reachable(true);
      for await (const event of events(response)) {
        if (cut.signal.aborted)
          return;
        if (ENDS.includes(event.name)) {
          clearTimeout(timer);
          look(true);
          return;
        }
        hear(event);
      }
    } catch {
      /* broken off, or refused: the job itself tells more */
    }
    again(RETRY_MS / 10, () => look(true));
  }

  open();
  return { close };
}
