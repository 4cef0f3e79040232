/*
 * api: talks to the daemon, and turns what goes wrong into words.
 *
 * call() either returns the answer's JSON or throws a Problem; nothing else escapes. A Problem with status 0 means that
 * nobody answered. inWords() is the only place that phrases errors for a person.
 */

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

export async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new Problem(0);
  }
  let json = {};
  try {
    json = text ? JSON.parse(text) : {};
  } catch {
    if (response.ok)
      throw new Problem(502, { detail: "The answer is not JSON. Is something else listening there?" });
  }
  if (!response.ok)
    throw new Problem(response.status, json, Number(response.headers.get("Retry-After")) || null);
  return json;
}

/* A heading and a sentence. `what` names the thing that was asked for, for "no longer there". */
export function inWords(problem, what = "page") {
  const later = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : " Try again in a moment.";
  switch (problem.status) {
  case 0:
    return ["The server does not answer.",
      `Is elsd still running at ${location.host}? Your settings are kept; try again when it is.`];
  case 401:
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
    return ["The machine is busy: its queue is full.", problem.detail + later];
  case 503:
    return ["The server is starting or stopping.", problem.detail + later];
  default:
    return ["Something went wrong.", problem.detail || problem.message];
  }
}
