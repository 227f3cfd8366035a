// The page: a picture or the camera, the top classes, and the map over the picture.
import { explain, load, prepared } from "./explain.js";

const SHOWN = 5;
const [canvas, list, state] = ["canvas", "ol", "output"].map((name) => document.querySelector(name));
const [file, alpha, camera] = ["file", "alpha", "camera"].map((id) => document.getElementById(id));
let model, current, video;

/** Draw the picture, and over it the map in red to yellow. */
function draw() {
  const { size } = model;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  context.drawImage(current.square, 0, 0);
  const heat = new ImageData(size, size);
  current.map.forEach((value, i) => {
    heat.data.set([255, 255 * value * value, 0, 255 * alpha.value * value], 4 * i);
  });
  const layer = new OffscreenCanvas(size, size);
  layer.getContext("2d").putImageData(heat, 0, 0);
  context.drawImage(layer, 0, 0);
}

/** List the top classes as buttons, which show the maps of their classes. */
function rank() {
  const order = [...current.scores.keys()].sort((a, b) => current.scores[b] - current.scores[a]);
  list.replaceChildren(...order.slice(0, SHOWN).map((index) => {
    const button = document.createElement("button");
    button.textContent = `${model.labels?.[index] ?? `class ${index}`}: ${current.scores[index].toFixed(2)}`;
    button.ariaPressed = index === current.target;
    button.onclick = () => show(current, index);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

async function show(prepared, target) {
  const begin = performance.now();
  current = { ...prepared, ...(await explain(model, prepared.values, target)) };
  draw();
  rank();
  state.value = `${Math.round(performance.now() - begin)} ms`;
}

async function open(blob) {
  try {
    stop();
    await show(prepared(model, await createImageBitmap(blob)));
  } catch (error) {
    state.value = `the file must be a picture that the browser can read (${error.message})`;
  }
}

function stop() {
  video?.srcObject.getTracks().forEach((track) => track.stop());
  video = undefined;
}

async function watch() {
  if (video) return stop();
  const element = document.createElement("video");
  try {
    element.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    state.value = `the camera cannot be used (${error.message})`;
    return;
  }
  await element.play();
  video = element;
  while (video === element) await show(prepared(model, element));
}

file.onchange = () => file.files.length && open(file.files[0]);
camera.onclick = watch;
alpha.oninput = () => current && draw();
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
};

state.value = "loading the model";
try {
  model = await load();
  state.value = "choose a picture, or drop one here";
  file.disabled = camera.disabled = false;
} catch (error) {
  state.value = `the model cannot be read; run prepare.py and npm install first (${error.message})`;
}
