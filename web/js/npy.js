/*
 * npy: reads a NumPy file of little-endian float32 in C order, as the server sends its tensors.
 */

/* { shape, data }; throws on anything else. */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  const wide = view.getUint8(6) >= 2;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (wide ? 12 : 10) + length;
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 0, start));
  const shape = /'shape': \(([\d, ]*)\)/.exec(header)?.[1].split(",").filter((text) => text.trim()).map(Number);
  if (header.slice(1, 6) !== "NUMPY" || !header.includes("'<f4'") || header.includes("True") || !shape)
    throw new TypeError("not a float32 .npy file");
  return { shape, data: new Float32Array(buffer.slice(start)) };
}
