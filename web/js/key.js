/*
 * key: the API key of a server that wants one. It is asked for in a dialog when the server first says 401, kept for this
 * tab only, sent in the Authorization header and never written into an address.
 */
import { byId } from "./dom.js";

const NAME = "els-api-key";

let asking = null; /* the one open question, or null */

export function currentKey() {
  return sessionStorage.getItem(NAME) ?? "";
}

/* A promise of the key, or of "" when the reader closes the dialog. `refused` is the key that did not do: a newer one
 * may have been given while its request was under way. */
export function askForKey(refused) {
  const key = currentKey();
  if (key !== refused)
    return Promise.resolve(key);
  asking ??= ask(refused).finally(() => { asking = null; });
  return asking;
}

function ask(refused) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  byId("key-refused").hidden = !refused;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const key = dialog.returnValue === "use" ? input.value.trim() : "";
      input.value = "";
      if (key)
        sessionStorage.setItem(NAME, key);
      resolve(key);
    }, { once: true });
  });
}
