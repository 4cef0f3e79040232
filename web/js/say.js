/*
 * say: everything the page tells the reader about a run: the line beside the picture, the box under the button, and
 * what only a screen reader hears.
 */
import { inWords } from "./api.js";
import { byId, el } from "./dom.js";

export function say(text) {
  byId("state").textContent = text;
}

export function announce(text) {
  byId("live").textContent = text;
}

/* A Problem, or a sentence of our own. `what` names the thing that was asked for; retry() is offered where a key was missing. */
export function complain(problem, what, retry = null) {
  const [title, detail] = typeof problem === "string" ? [problem, ""] : inWords(problem, what);
  const box = byId("problem");
  if (!box.hidden && box.textContent === title + detail)
    return; /* said already; screen readers would hear it again */
  box.replaceChildren(el("strong", {}, title), detail);
  if (problem.status === 401 && retry)
    box.append(el("button", { type: "button", className: "quiet", onclick: retry }, "Enter the key"));
  box.hidden = false;
}

export function forgive() {
  byId("problem").hidden = true;
}
