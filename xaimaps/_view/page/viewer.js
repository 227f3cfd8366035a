// The page of `xaimaps view`, and of the file that it saves, which holds what it shows.

const byId = (id) => document.getElementById(id);
const saved = JSON.parse(byId("shown")?.textContent ?? "null");
const token = location.hash.slice(1);
const MOST_ROWS = 50;

const RED = [178, 24, 43];
const BLUE = [33, 102, 172];

const panels = [];
let about, picture, number, target, layer, difference;

// Every text comes from a file or a model: it is set as text, never as markup.
function element(name, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
}

function say(text, isWrong = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("wrong", isWrong);
}

async function ask(path, body, signal) {
  const headers = { Authorization: `Bearer ${token}` };
  const isFile = body === undefined || body instanceof Blob;
  const method = body === undefined ? "GET" : "POST";
  const sent = { method, headers, signal, body: isFile ? body : JSON.stringify(body) };
  const answer = await fetch(`api/${path}`, sent).catch(() => {
    throw new Error("xaimaps does not answer; is `xaimaps view` still running?");
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? "xaimaps failed; the terminal says why");
  }
  return answer.headers.get("content-type").startsWith("text/html") ? answer.blob() : answer.json();
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  }
}

async function loaded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

// A canvas over the picture, whose cells the pointer and the arrow keys choose.
class View {
  constructor(root) {
    this.root = root;
    [this.canvas, this.output] = ["canvas", "output"].map((name) => root.querySelector(name));
    this.canvas.addEventListener("pointermove", (event) => pointAll(this.cellAt(event)));
    this.canvas.addEventListener("pointerleave", () => pointAll(null));
    this.canvas.addEventListener("focus", () => pointAll(this.cell ?? [0.5, 0.5]));
    this.canvas.addEventListener("blur", () => pointAll(null));
    this.canvas.addEventListener("keydown", (event) => this.move(event));
  }

  point(cell) {
    this.cell = cell;
    this.output.textContent = "";
    this.paint();
  }

  paint() {
    if (!picture) return;
    const [width, height] = [picture.width, picture.height];
    Object.assign(this.canvas, { width, height });
    const pen = this.canvas.getContext("2d");
    pen.drawImage(picture.image, 0, 0);
    if (!this.heat) return;
    pen.globalAlpha = byId("alpha").value / 100;
    pen.drawImage(this.heat, 0, 0, width, height);
    pen.globalAlpha = 1;
    this.finish(pen);
  }

  // The picture may be narrower than its canvas, whose height is limited.
  cellAt(event) {
    if (!picture) return null;
    const box = this.canvas.getBoundingClientRect();
    const scale = Math.min(box.width / picture.width, box.height / picture.height);
    const cell = [(event.clientX - box.left) / scale / picture.width, (event.clientY - box.top) / scale / picture.height];
    return cell.every((part) => part >= 0 && part < 1) ? cell : null;
  }

  move(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in steps) || !this.heat) return;
    event.preventDefault();
    const sizes = this.sizes;
    const old = this.cell ?? [0.5, 0.5];
    const moved = sizes.map((size, axis) => Math.floor(old[axis] * size) + steps[event.key][axis]);
    pointAll(moved.map((place, axis) => (Math.min(Math.max(place, 0), sizes[axis] - 1) + 0.5) / sizes[axis]));
  }
}

class Panel extends View {
  constructor(method) {
    super(byId("panel").content.cloneNode(true).firstElementChild);
    this.select = this.root.querySelector("select");
    [this.summary, this.caption, this.notes] = [".summary", ".about", ".notes"].map((name) => this.root.querySelector(name));
    this.turn = 0;
    this.select.append(...about.methods.map(({ name }) => new Option(name, name, false, name === method)));
    this.select.addEventListener("change", () => refresh([this]));
  }

  get sizes() {
    return [this.map.columns, this.map.rows];
  }

  get method() {
    return about.methods.find(({ name }) => name === this.select.value);
  }

  question() {
    return { picture: number, method: this.select.value, layer: this.method.takes_layer ? layer : null, target };
  }

  async explain() {
    const turn = ++this.turn;
    this.request?.abort();
    this.request = new AbortController();
    this.root.setAttribute("aria-busy", "true");
    try {
      const map = await ask("maps", this.question(), this.request.signal);
      const heat = await loaded(map.heatmap);
      if (turn === this.turn) this.show(map, heat);
    } catch (error) {
      if (turn !== this.turn) return;
      this.show(null, null);
      throw error;
    } finally {
      if (turn === this.turn) this.root.removeAttribute("aria-busy");
    }
  }

  show(map, heat) {
    [this.map, this.heat] = [map, heat];
    this.values = map && floats(map.values);
    this.summary.textContent = this.method.summary;
    this.caption.textContent = map ? told(map) : "";
    this.notes.replaceChildren(...(map?.notes ?? []).map((note) => element("li", note)));
    this.canvas.setAttribute("aria-label", map ? `${map.method} over ${picture.name}` : picture.name);
    this.paint();
    difference.refresh();
  }

  finish(pen) {
    const [width, height] = [picture.width, picture.height];
    if (this.map.box) {
      const [left, top, right, bottom] = this.map.box;
      outline(pen, [left * width, top * height, (right - left) * width, (bottom - top) * height]);
    }
    if (!this.cell) return;
    const { rows, columns } = this.map;
    const [row, column] = this.place(this.cell);
    const [wide, high] = [width / columns, height / rows];
    if (wide >= 4) outline(pen, [column * wide, row * high, wide, high]);
    this.output.textContent = `${this.value(this.cell).toPrecision(4)} in row ${row + 1} of ${rows}, column ${column + 1} of ${columns}`;
  }

  place([x, y]) {
    return [Math.floor(y * this.map.rows), Math.floor(x * this.map.columns)];
  }

  value(cell) {
    const [row, column] = this.place(cell);
    return this.values[row * this.map.columns + column];
  }

  // The value as a part of the largest magnitude of the map.
  part(cell) {
    return this.value(cell) / (Math.max(...this.map.range.map(Math.abs)) || 1);
  }
}

// The first map minus the second, each divided by its largest magnitude.
class Difference extends View {
  constructor() {
    super(byId("difference").content.cloneNode(true).firstElementChild);
  }

  get sizes() {
    return [picture.width, picture.height];
  }

  refresh() {
    byId("apart").hidden = panels.length < 2;
    const isShown = panels.length === 2 && byId("subtract").checked;
    if (isShown) byId("panels").append(this.root);
    else this.root.remove();
    this.heat = isShown && panels.every(({ map }) => map) ? this.drawn() : null;
    this.paint();
  }

  value(cell) {
    return panels[0].part(cell) - panels[1].part(cell);
  }

  drawn() {
    const heat = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
    const pixels = new ImageData(picture.width, picture.height);
    for (let index = 0; index < picture.width * picture.height; index++) {
      const [x, y] = [index % picture.width, Math.floor(index / picture.width)];
      pixels.data.set(diverging(this.value([(x + 0.5) / picture.width, (y + 0.5) / picture.height])), 4 * index);
    }
    heat.getContext("2d").putImageData(pixels, 0, 0);
    return heat;
  }

  finish() {
    if (!this.cell) return;
    const [first, second] = panels.map((panel) => panel.part(this.cell).toFixed(3));
    this.output.textContent = `${this.value(this.cell).toFixed(3)}: ${first} minus ${second}`;
  }
}

// White at 0, red from there to 1, blue to -1; differences go on to 2, in the same colours.
function diverging(value) {
  const share = Math.min(Math.abs(value), 1);
  return [...(value > 0 ? RED : BLUE).map((part) => 255 + share * (part - 255)), 255];
}

function outline(pen, box) {
  for (const [color, width] of [["black", 3], ["white", 1]]) {
    Object.assign(pen, { strokeStyle: color, lineWidth: width });
    pen.strokeRect(...box);
  }
}

function floats(text) {
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function told(map) {
  const goal = map.target === null ? "every output" : map.target;
  const score = map.score === null ? "" : `, score ${map.score.toPrecision(4)}`;
  const range = map.range.map((value) => value.toPrecision(4)).join(" to ");
  return `${goal}${score}; ${map.layer ?? "input"}; values ${range}; ${Math.round(map.seconds * 1000)} ms`;
}

function pointAll(cell) {
  [...panels, difference].forEach((view) => view.point(cell));
}

function refresh(changed = panels) {
  const isLayered = panels.some(({ method }) => method.takes_layer);
  byId("layers").hidden = !isLayered;
  byId("unlayered").hidden = isLayered;
  if (!picture) return;
  attempt(async () => {
    say("Computing; the first map of a method takes longer.");
    await Promise.all(changed.map((panel) => panel.explain()));
    if (!panels.some(({ root }) => root.ariaBusy)) say("Done.");
  });
}

function resize(count) {
  while (panels.length < count) {
    panels.push(new Panel(about.usual.find((name) => panels.every(({ select }) => select.value !== name))));
  }
  panels.length = count;
  byId("panels").replaceChildren(...panels.map(({ root }) => root));
  difference.refresh();
}

async function choose(wanted) {
  say("Reading the picture.");
  const found = await ask(`pictures/${wanted}`);
  found.image = await loaded(found.view);
  [picture, number, target] = [found, wanted, null];
  byId("pictures").value = wanted;
  byId("find").value = "";
  panels.forEach((panel) => panel.show(null, null));
  reveal();
  listChoices();
  refresh();
}

async function upload(file) {
  if (!file) return;
  if (file.size > about.most_bytes) throw new Error(`A picture must have at most ${about.most_bytes} bytes, got ${file.size}.`);
  say("Reading the picture.");
  const added = await ask(`pictures?name=${encodeURIComponent(file.name)}`, file);
  offer(added, file.name);
  await choose(added);
}

function offer(value, name) {
  byId("pictures").append(new Option(name, value));
  byId("pictures").hidden = false;
}

function row(group, text, detail, isChosen, pick) {
  const label = element("label");
  const input = element("input", "", { type: "radio", name: group, checked: isChosen });
  input.addEventListener("change", pick);
  label.append(input, element("span", text), element("small", detail));
  return label;
}

function listChoices() {
  const wanted = byId("find").value.toLowerCase();
  const rows = picture.choices.filter(({ label }) => label.toLowerCase().includes(wanted)).slice(0, MOST_ROWS);
  const current = target ?? picture.choices[0]?.target;
  const listed = rows.map((choice) =>
    row("choice", choice.label, share(choice), choice.target === current, () => {
      target = choice.target;
      refresh();
    }),
  );
  byId("choices").replaceChildren(...(listed.length ? listed : [element("p", "Nothing of this name.")]));
}

function share({ probability, area, score }) {
  const part = probability ?? area;
  return part === undefined || part === null ? (score ?? NaN).toPrecision(4) : `${(100 * part).toFixed(1)} %`;
}

function listLayers() {
  layer = about.layer;
  const rows = about.layers.map(({ name, operator, shape }) =>
    row("layer", name, `${operator} ${shape.map((size) => size ?? "?").join(" x ")}`, name === layer, () => {
      layer = name;
      refresh(panels.filter(({ method }) => method.takes_layer));
    }),
  );
  byId("layers").replaceChildren(...rows);
  byId("layers").querySelector(":checked")?.scrollIntoView({ block: "nearest" });
}

async function save() {
  const file = await ask("file", panels.map((panel) => panel.question()));
  const link = element("a", "", { href: URL.createObjectURL(file), download: "xaimaps.html" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function listen() {
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("file").addEventListener("change", ({ target: input }) => attempt(() => upload(input.files[0])));
  byId("pictures").addEventListener("change", ({ target: list }) => attempt(() => choose(Number(list.value))));
  byId("find").addEventListener("input", () => picture && listChoices());
  byId("save").addEventListener("click", () => attempt(save));
  byId("both").addEventListener("change", ({ target: box }) => {
    resize(box.checked ? 2 : 1);
    refresh(panels.slice(1));
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    attempt(() => upload(event.dataTransfer.files[0]));
  });
}

function reveal() {
  byId("tools").hidden = byId("panels").hidden = false;
}

function present() {
  byId("model").textContent = `${about.model} in ${about.backend}`;
  document.title = `${about.model} - xaimaps`;
  difference = new Difference();
  byId("alpha").addEventListener("input", () => [...panels, difference].forEach((view) => view.paint()));
  byId("subtract").addEventListener("change", () => difference.refresh());
}

async function showSaved() {
  ({ about, picture } = saved);
  picture.image = await loaded(picture.view);
  present();
  document.body.classList.add("saved");
  for (const id of ["controls", "pair", "save"]) byId(id).hidden = true;
  resize(saved.maps.length);
  reveal();
  for (const [index, panel] of panels.entries()) {
    panel.select.value = saved.maps[index].method;
    panel.select.disabled = true;
    panel.show(saved.maps[index], await loaded(saved.maps[index].heatmap));
  }
  say(picture.name);
}

async function start() {
  about = await ask("about");
  present();
  listen();
  listLayers();
  resize(1);
  byId("pair").hidden = about.methods.length < 2;
  about.pictures.forEach(([value, name]) => offer(value, name));
  refresh();
  if (about.pictures.length) await choose(about.pictures[0][0]);
}

attempt(saved ? showSaved : start);
