/*
 * mosaic: where every pixel of a picture comes from, as the server tells it, made easy to ask.
 *
 *     const mosaic = await fetchMosaic(job, { image: 0, step: null });
 *     mosaic.top(y, x)[0]              // { image, row, column, weight }: the heaviest candidate
 *     mosaic.effective(y, x)           // how many patches share the pixel: exp(entropy)
 *     mosaic.summary                   // { pieces, sources, leading, pixel }
 */
import { call } from "./api.js";

const DECIDED = 32; /* patches; where more agree (plain background), none of them is the source */

export async function fetchMosaic(job, { image, step }) {
  const last = job.result.steps.length;
  return new Mosaic(await call("GET", `/v1/jobs/${job.id}/images/${image}/mosaic${step < last ? `?step=${step}` : ""}`));
}

export class Mosaic {
  #json;

  constructor(json) {
    this.#json = json;
    this.H = json.height;
    this.W = json.width;
  }

  /* The candidates of a pixel, heaviest first. */
  top(y, x) {
    const { top: m, candidates: { image, row, column, weight } } = this.#json;
    const start = (y * this.W + x) * m;
    return Array.from({ length: m }, (_, k) => ({ image: image[start + k], row: row[start + k],
      column: column[start + k], weight: weight[start + k] })).filter((each) => each.image >= 0);
  }

  region(y, x) {
    return this.#json.region[y * this.W + x];
  }

  effective(y, x) {
    return Math.exp(this.#json.entropy[y * this.W + x]);
  }

  /* Whether one patch, or a few, can be called the source of the pixel. */
  decided(y, x) {
    return this.effective(y, x) < DECIDED;
  }

  /* Of the decided pixels: how many pieces and training pictures they come from, the picture that gives most of them,
   * and a pixel in the middle of the largest piece (null when there is none). */
  get summary() {
    const pieces = new Map(), sources = new Map();
    for (let y = 0; y < this.H; y++)
      for (let x = 0; x < this.W; x++) {
        if (!this.decided(y, x))
          continue;
        const region = this.region(y, x);
        const { image } = this.top(y, x)[0];
        pieces.set(region, [...(pieces.get(region) ?? []), { y, x }]);
        sources.set(image, (sources.get(image) ?? 0) + 1);
      }
    const largest = [...pieces.values()].sort((a, b) => b.length - a.length)[0];
    const [leading = null] = [...sources].sort((a, b) => b[1] - a[1])[0] ?? [];
    return { pieces: pieces.size, sources: sources.size, leading, pixel: largest ? middle(largest) : null };
  }
}

/* The pixel of a piece that lies closest to its centre of mass. */
function middle(pixels) {
  const mean = (axis) => pixels.reduce((sum, each) => sum + each[axis], 0) / pixels.length;
  const [cy, cx] = [mean("y"), mean("x")];
  const far = ({ y, x }) => (y - cy) ** 2 + (x - cx) ** 2;
  return pixels.reduce((best, each) => (far(each) < far(best) ? each : best));
}
