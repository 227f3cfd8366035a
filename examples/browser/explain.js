// The exported model in onnxruntime-web: pictures in, scores and maps out.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // several threads need headers that a simple server does not send

/** Read the exported model and its description. */
export async function load() {
  const description = await (await fetch("model.json")).json();
  const session = await ort.InferenceSession.create("explained.onnx");
  return { session, ...description };
}

/** Return the middle square of a picture, a video or a canvas as the model takes it: (1, 3, size, size). */
export function prepared(model, picture) {
  const { size, scale, mean, std, crop_fraction } = model;
  const width = picture.videoWidth || picture.width;
  const height = picture.videoHeight || picture.height;
  const side = Math.min(width, height) * crop_fraction;
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (width - side) / 2, (height - side) / 2, side, side, 0, 0, size, size);
  const pixels = context.getImageData(0, 0, size, size).data;
  const count = size * size;
  const values = new Float32Array(3 * count);
  for (let channel = 0; channel < 3; channel++) {
    const of = (numbers) => numbers[channel % numbers.length];
    for (let i = 0; i < count; i++) {
      values[channel * count + i] = (pixels[4 * i + channel] * scale - of(mean)) / of(std);
    }
  }
  return { values, square: canvas };
}

/** Return the scores, and the map of a class from 0 to 1; without a class, of the top one. */
export async function explain(model, values, target) {
  const images = new ort.Tensor("float32", values, [1, 3, model.size, model.size]);
  const run = async (index) => {
    const classes = new ort.Tensor("int64", BigInt64Array.of(BigInt(index)), [1]);
    const found = await model.session.run({ [model.session.inputNames[0]]: images, target: classes });
    return { target: index, scores: found[model.session.outputNames[0]].data, map: found.map.data };
  };
  if (target !== undefined) return run(target);
  const { scores } = await run(0);
  return run(scores.indexOf(Math.max(...scores)));
}
