/*
 * frames: pictures by address, decoded before they are shown, so that nothing flashes.
 *
 * Keeps the last few hundred; a long run (thousands of steps) is loaded as it is looked at.
 */
import { load } from "./api.js";

const KEEP = 256;

export class Frames {
  #kept = new Map();

  /* A promise of an ImageBitmap; rejects when it cannot be had. */
  get(path) {
    let frame = this.#kept.get(path);
    if (frame) {
      this.#kept.delete(path); /* to the young end */
    } else {
      frame = load(path).then(createImageBitmap);
      frame.catch(() => this.#kept.delete(path));
    }
    this.#kept.set(path, frame);
    if (this.#kept.size > KEEP)
      this.#kept.delete(this.#kept.keys().next().value);
    return frame;
  }
}

/* A promise of the picture that an event carries. */
export function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

/* Grey Gaussian noise in the bank's size: what stands in the frame before anything was made. */
export function drawNoise(canvas, [, H, W]) {
  const context = canvas.getContext("2d");
  canvas.width = W;
  canvas.height = H;
  const pixels = context.createImageData(W, H);
  for (let i = 0; i < W * H; i++) {
    const gauss = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    pixels.data.fill(127.5 + 127.5 * gauss, 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}
