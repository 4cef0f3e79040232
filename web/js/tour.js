/*
 * tour: the two-minute walk from two plain pictures to what a drawn picture is made of. Each stop says one thing and offers
 * one thing to do on the real page; the stop stands in the address.
 */
import { byId } from "./dom.js";

/* `act` names an action of main; `needs` an output without which `instead` is said. */
const STOPS = [
  { title: "Only two pictures",
    text: "Begin with the smallest bank: one picture all black, one all white. What can be made of just these two?",
    button: "Draw from these two", act: "twoTone" },
  { title: "A pattern that nobody drew",
    text: "The result is neither of the two. Every pixel saw only the 3×3 window around it, asked whether that looks more "
      + "like a piece of black or of white, and followed. Neighbours agree; the whole is new.",
    button: "Play it again", act: "play" },
  { title: "Now with strokes",
    text: "The same machine with a few hundred drawn threes. The window in the picture is what one pixel sees: wide in heavy "
      + "noise, small at the end. Watch it shrink while the picture clears.",
    button: "Draw from threes", act: "threes" },
  { title: "What it is made of",
    text: "Point at any pixel. Beside it you see the training picture that it was taken from, and the very patch. Each "
      + "colour is another training picture.",
    instead: "Beside it are pictures of the bank. Cover all but a small window of the result: somewhere in the bank there is "
      + "a window just like it.",
    needs: "final_mosaic", button: "Show the pieces", act: "pieces" },
  { title: "Why small windows matter",
    text: "A machine that compares whole pictures can only give one of them back. Looking through small windows is what lets "
      + "patches of different pictures meet.",
    button: "Compare the machines", act: "machines" },
];

export class Tour {
  #caps;
  #actions;
  #onmove;
  #stop = null;

  /* `actions` holds a function for every `act`; onmove() is called when the stop has changed. */
  constructor(caps, actions, onmove) {
    this.#caps = caps;
    this.#actions = actions;
    this.#onmove = onmove;
    byId("tour-close").addEventListener("click", () => {
      this.go(null);
      byId("tour-start").focus();
    });
    byId("tour-back").addEventListener("click", () => this.go(this.#stop - 1));
    byId("tour-next").addEventListener("click", () => this.go(this.#stop + 1 < STOPS.length ? this.#stop + 1 : null));
    byId("tour-act").addEventListener("click", () => this.#actions[STOPS[this.#stop].act]());
  }

  /* The number of the stop as the address has it, from 1; null outside the tour. */
  get place() {
    return this.#stop === null ? null : this.#stop + 1;
  }

  open(place) {
    this.#show(place >= 1 && place <= STOPS.length ? place - 1 : null);
  }

  go(stop) {
    this.#show(stop);
    if (stop !== null) {
      byId("tour-title").focus({ preventScroll: true });
      byId("tour").scrollIntoView({ block: "nearest" });
    }
    this.#onmove();
  }

  #show(stop) {
    this.#stop = stop;
    byId("tour").hidden = stop === null;
    if (stop === null)
      return;
    const { title, text, instead, needs, button } = STOPS[stop];
    const able = !needs || this.#caps.outputs.includes(needs);
    byId("tour-count").textContent = `Tour · ${stop + 1} of ${STOPS.length}`;
    byId("tour-title").textContent = title;
    byId("tour-text").textContent = able ? text : instead;
    byId("tour-act").hidden = !able;
    byId("tour-act").textContent = button;
    byId("tour-back").disabled = stop === 0;
    byId("tour-next").textContent = stop + 1 < STOPS.length ? "Next" : "Finish";
  }
}
