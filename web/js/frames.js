/*
 * frames: pictures by address, decoded before they are shown, so that nothing flashes.
 *
 * Keeps the last few hundred; a long run (thousands of steps) is loaded as it is looked at.
 */

const KEEP = 256;

export class Frames {
  #kept = new Map();

  /* A promise of a decoded image; rejects when it cannot be had. */
  get(url) {
    let frame = this.#kept.get(url);
    if (frame) {
      this.#kept.delete(url); /* to the young end */
    } else {
      const image = new Image();
      image.src = url;
      frame = image.decode().then(() => image);
      frame.catch(() => this.#kept.delete(url));
    }
    this.#kept.set(url, frame);
    if (this.#kept.size > KEEP)
      this.#kept.delete(this.#kept.keys().next().value);
    return frame;
  }

  clear() {
    this.#kept.clear();
  }
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
