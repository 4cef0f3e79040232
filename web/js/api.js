/*
 * api: talks to the daemon, and turns what goes wrong into words.
 *
 * request() answers with a Response, whatever its status; call() either returns the answer's JSON or throws a Problem,
 * and nothing else escapes. A Problem with status 0 means that nobody answered. A server that wants a key (401) gets it
 * from key.js, which asks the reader once; the request is then sent again. inWords() is the only place that phrases
 * errors for a person.
 */
import { askForKey, currentKey } from "./key.js";

export class Problem extends Error {
  constructor(status, body = {}, retryAfter = null) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.code = body.code || "";
    this.detail = body.detail || "";
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.retryAfter = retryAfter;
  }
}

async function send(path, { headers, ...options }, key) {
  try {
    return await fetch(path, { ...options, headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(0);
  }
}

export async function request(path, options = {}) {
  let key = currentKey();
  let response = await send(path, options, key);
  while (response.status === 401) {
    key = await askForKey(key);
    if (!key)
      break;
    response = await send(path, options, key);
  }
  return response;
}

/* What an answer that is not ok says about itself. */
export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body, Number(response.headers.get("Retry-After")) || null);
}

export async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await request(path, options);
  if (!response.ok)
    throw await problemOf(response);
  try {
    const text = await response.text();
    return text ? JSON.parse(text) : {};
  } catch (error) {
    throw error instanceof SyntaxError
      ? new Problem(502, { detail: "The answer is not JSON. Is something else listening there?" }) : new Problem(0);
  }
}

/* The bytes behind an address, as a Blob. */
export async function load(path) {
  const response = await request(path);
  if (!response.ok)
    throw await problemOf(response);
  return response.blob().catch(() => { throw new Problem(0); });
}

function later({ retryAfter }) {
  return retryAfter ? ` Try again in ${retryAfter} s.` : " Try again in a moment.";
}

/* A heading and a sentence. `what` names the thing that was asked for, for "no longer there". */
export function inWords(problem, what = "page") {
  switch (problem.status) {
  case 0:
    return ["The server does not answer.",
      `Is elsd still running at ${location.host}? Your settings are kept; try again when it is.`];
  case 401:
    return ["This server asks for a key.", "Whoever runs it can give you one. "];
  case 403:
    return ["The server does not let this page in.", problem.detail];
  case 404:
  case 410:
    return what === "job"
      ? ["This run is no longer kept.", "Its settings are in the link. Make it again: the same seed draws the same picture."]
      : ["That is not there.", problem.detail];
  case 413:
  case 422:
    return ["These settings do not work.", problem.detail];
  case 429:
    return ["The machine is busy.", `Too many pictures are waiting already.${later(problem)}`];
  case 503:
    return ["The server is starting or stopping.", problem.detail + later(problem)];
  default:
    return ["Something went wrong.", problem.detail || problem.message];
  }
}
