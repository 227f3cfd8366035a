// The page of `xaimaps view`, of a notebook, and of the file that it saves, which holds what it shows.

const byId = (id) => document.getElementById(id);
const shown = JSON.parse(byId("shown")?.textContent ?? "{}");
const token = location.hash.slice(1);
const MOST_ROWS = 50;

const RED = [178, 24, 43];
const BLUE = [33, 102, 172];

const panels = [];
let about, models, number, asked, difference;

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
  if (shown.notebook) return askNotebook(path, body);
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

// In a notebook the page is a frame, which hands its questions to the notebook, and that to Python.
const waiting = new Map();

async function askNotebook(path, body) {
  const id = `${performance.timeOrigin} ${Math.random()}`;
  const file = body instanceof Blob ? await body.arrayBuffer() : null;
  parent.postMessage({ id, path, body: file ? null : (body ?? null), file }, "*");
  const answer = await new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  return path === "file" ? new Blob([answer], { type: "text/html" }) : answer;
}

function hear({ source, data: { id, answer, error } }) {
  if (source !== parent || !waiting.has(id)) return;
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(new Error(error));
  else resolve(answer);
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

// A model with its picture, target and layer, and the lists to choose them from.
class Model {
  constructor(described, index) {
    Object.assign(this, described, { index });
    this.root = byId("choosing").content.cloneNode(true).firstElementChild;
    [this.find, this.list, this.layerList, this.unlayered] = ["input", ".choices", ".layers", ".unlayered"].map((name) => this.root.querySelector(name));
    this.find.addEventListener("input", () => this.listChoices());
    if (about.models.length > 1) this.nameFields();
    this.listLayers();
  }

  nameFields() {
    this.root.querySelectorAll("legend").forEach((legend) => legend.append(` of ${this.name}`));
    this.find.ariaLabel += ` of ${this.name}`;
  }

  get seen() {
    return this.number === number ? this.picture : null;
  }

  get isLayered() {
    return panels.some(({ model, method }) => model === this && method.takes_layer);
  }

  // Each picture is asked for once.
  read(wanted) {
    if (this.wanted !== wanted) {
      this.wanted = wanted;
      this.reading = this.fetched(wanted);
      this.reading.catch(() => this.wanted === wanted && (this.wanted = null));
    }
    return this.reading;
  }

  async fetched(wanted) {
    const found = await ask(`models/${this.index}/pictures/${wanted}`);
    found.image = await loaded(found.view);
    if (this.wanted !== wanted) return;
    [this.picture, this.number, this.chosen] = [found, wanted, found.choices[0]];
    this.find.value = "";
    if (wanted === number) this.follow(asked);
    this.listChoices();
  }

  pick(choice) {
    asked = this.chosen = choice;
    models.forEach((model) => model.follow(choice));
    refresh();
  }

  // Choose what another model calls by the same name, if this model has it.
  follow(choice) {
    const name = choice?.label.toLowerCase();
    const same = this.picture?.choices.filter(({ label }) => label.toLowerCase() === name) ?? [];
    if (!same.length) return;
    const own = same.includes(this.chosen) ? this.chosen : same[0];
    this.chosen = same.find(({ target }) => target === choice.target) ?? own;
    this.listChoices();
  }

  listChoices() {
    if (!this.seen) return;
    const wanted = this.find.value.toLowerCase();
    const rows = this.seen.choices.filter(({ label }) => label.toLowerCase().includes(wanted)).slice(0, MOST_ROWS);
    const listed = rows.map((choice) =>
      row(`choice ${this.index}`, choice.label, share(choice), choice === this.chosen, () => this.pick(choice)),
    );
    this.list.replaceChildren(...(listed.length ? listed : [element("p", "Nothing of this name.")]));
  }

  listLayers() {
    const rows = this.layers.map(({ name, operator, shape }) =>
      row(`layer ${this.index}`, name, `${operator} ${shape.map((size) => size ?? "?").join(" x ")}`, name === this.layer, () => {
        this.layer = name;
        refresh(panels.filter(({ model, method }) => model === this && method.takes_layer));
      }),
    );
    this.layerList.replaceChildren(...rows);
  }

  scrollToLayer() {
    const chosen = this.layerList.querySelector(":checked");
    if (chosen) this.layerList.scrollTop = chosen.offsetTop - this.layerList.offsetTop;
  }

  reveal() {
    this.root.hidden = panels.every(({ model }) => model !== this);
    this.layerList.hidden = !this.isLayered;
    this.unlayered.hidden = this.isLayered;
  }
}

// A canvas over the picture, whose cells the pointer and the arrow keys choose.
class View {
  constructor(root) {
    this.root = root;
    [this.canvas, this.output] = ["canvas", "output"].map((name) => root.querySelector(name));
    this.canvas.addEventListener("pointermove", (event) => this.pointAll(this.cellAt(event)));
    this.canvas.addEventListener("pointerleave", () => this.pointAll(null));
    this.canvas.addEventListener("focus", () => this.pointAll(this.cell ?? [0.5, 0.5]));
    this.canvas.addEventListener("blur", () => this.pointAll(null));
    this.canvas.addEventListener("keydown", (event) => this.move(event));
  }

  // Point at the same part of the picture in every view of it.
  pointAll(cell) {
    views().forEach((view) => view.point(isAlike(view.seen, this.seen) ? cell : null));
  }

  point(cell) {
    this.cell = cell;
    this.output.textContent = "";
    this.paint();
  }

  paint() {
    const { width = 0, height = 0, image } = this.seen ?? {};
    Object.assign(this.canvas, { width, height });
    if (!image) return;
    const pen = this.canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    if (!this.heat) return;
    pen.globalAlpha = byId("alpha").value / 100;
    pen.drawImage(this.heat, 0, 0, width, height);
    pen.globalAlpha = 1;
    this.finish(pen);
  }

  // The picture may be narrower than its canvas, whose height is limited.
  cellAt(event) {
    if (!this.seen) return null;
    const { width, height } = this.seen;
    const box = this.canvas.getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height);
    const cell = [(event.clientX - box.left) / scale / width, (event.clientY - box.top) / scale / height];
    return cell.every((part) => part >= 0 && part < 1) ? cell : null;
  }

  move(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in steps) || !this.heat) return;
    event.preventDefault();
    const sizes = this.sizes;
    const old = this.cell ?? [0.5, 0.5];
    const moved = sizes.map((size, axis) => Math.floor(old[axis] * size) + steps[event.key][axis]);
    this.pointAll(moved.map((place, axis) => (Math.min(Math.max(place, 0), sizes[axis] - 1) + 0.5) / sizes[axis]));
  }
}

class Panel extends View {
  constructor(model, method) {
    super(byId("panel").content.cloneNode(true).firstElementChild);
    [this.models, this.methods] = [".models", ".methods"].map((name) => this.root.querySelector(name));
    [this.summary, this.caption, this.notes] = [".summary", ".about", ".notes"].map((name) => this.root.querySelector(name));
    this.turn = 0;
    this.models.append(...models.map(({ name, index }) => new Option(name, index)));
    this.models.value = model.index;
    this.models.parentElement.hidden = models.length < 2;
    this.offer(method);
    this.methods.addEventListener("change", () => refresh([this]));
    this.models.addEventListener("change", () => {
      this.offer(this.methods.value);
      this.show(null, null);
      refresh([this]);
    });
  }

  // Offer the methods of the model, and choose one, or another that the model has.
  offer(wanted) {
    const names = this.model.methods.map(({ name }) => name);
    this.methods.replaceChildren(...names.map((name) => new Option(name)));
    this.methods.value = names.includes(wanted) ? wanted : this.model.usual[0];
  }

  get model() {
    return models[this.models.value];
  }

  get seen() {
    return this.model.seen;
  }

  get sizes() {
    return [this.map.columns, this.map.rows];
  }

  get method() {
    return this.model.methods.find(({ name }) => name === this.methods.value);
  }

  question() {
    const { index, layer, chosen } = this.model;
    const target = chosen?.target ?? null;
    return { model: index, picture: number, method: this.method.name, layer: this.method.takes_layer ? layer : null, target };
  }

  async explain() {
    const turn = ++this.turn;
    this.request?.abort();
    this.request = new AbortController();
    this.root.setAttribute("aria-busy", "true");
    try {
      await this.model.read(number);
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
    this.canvas.setAttribute("aria-label", map ? `${map.method} of ${this.model.name} over ${this.seen.name}` : "The picture");
    this.paint();
    difference.refresh();
    tellTargets();
  }

  finish(pen) {
    const { width, height } = this.seen;
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
    this.apart = this.root.querySelector(".apart");
  }

  get sizes() {
    return [this.seen.width, this.seen.height];
  }

  get seen() {
    const [first, second] = panels.map((panel) => panel.seen);
    return isAlike(first, second) ? first : null;
  }

  refresh() {
    byId("apart").hidden = panels.length < 2;
    const isShown = panels.length === 2 && byId("subtract").checked;
    if (isShown) byId("panels").append(this.root);
    else this.root.remove();
    const isKnown = panels.every(({ seen, map }) => seen && map);
    this.apart.hidden = !isKnown || Boolean(this.seen);
    this.heat = isShown && isKnown && this.seen ? this.drawn() : null;
    this.paint();
  }

  value(cell) {
    return panels[0].part(cell) - panels[1].part(cell);
  }

  drawn() {
    const { width, height } = this.seen;
    const heat = Object.assign(document.createElement("canvas"), { width, height });
    const pixels = new ImageData(width, height);
    for (let index = 0; index < width * height; index++) {
      const [x, y] = [index % width, Math.floor(index / width)];
      pixels.data.set(diverging(this.value([(x + 0.5) / width, (y + 0.5) / height])), 4 * index);
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

function views() {
  return [...panels, difference];
}

// Whether two models see the same part of the picture.
function isAlike(one, other) {
  return Boolean(one && other) && one.seen.every((size, axis) => size === other.seen[axis]);
}

function tellTargets() {
  const labels = panels.map(({ map }) => map?.target && map.label);
  const isUnlike = labels.length === 2 && labels.every(Boolean) && labels[0].toLowerCase() !== labels[1].toLowerCase();
  byId("unlike").hidden = !isUnlike;
  byId("unlike").textContent = isUnlike ? `The two maps explain different targets: ${labels.join(" and ")}.` : "";
}

function refresh(changed = panels) {
  models.forEach((model) => model.reveal());
  if (number === undefined) return;
  attempt(async () => {
    say("Computing; the first map of a method takes longer.");
    await Promise.all(changed.map((panel) => panel.explain()));
    if (!panels.some(({ root }) => root.ariaBusy)) say("Done.");
  });
}

// The next panel shows another model by the same method, or the only model by another method.
function added() {
  const [first] = panels;
  if (!first) return new Panel(models[0], models[0].usual[0]);
  const other = models.find((model) => model !== first.model);
  if (other) return new Panel(other, first.method.name);
  return new Panel(first.model, first.model.usual.find((name) => name !== first.method.name));
}

function resize(count) {
  while (panels.length < count) panels.push(added());
  panels.length = count;
  byId("panels").replaceChildren(...panels.map(({ root }) => root));
  difference.refresh();
  tellTargets();
}

async function choose(wanted) {
  say("Reading the picture.");
  await panels[0].model.read(wanted);
  [number, asked] = [wanted, panels[0].model.chosen];
  byId("pictures").value = wanted;
  panels.forEach((panel) => panel.show(null, null));
  panels[0].model.listChoices();
  reveal();
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

function share({ probability, area, score }) {
  const part = probability ?? area;
  return part === undefined || part === null ? (score ?? NaN).toPrecision(4) : `${(100 * part).toFixed(1)} %`;
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
  models = about.models.map((described, index) => new Model(described, index));
  byId("explained").append(...models.map(({ root }) => root));
  byId("models").textContent = models.map(({ name, backend }) => `${name} in ${backend}`).join(", ");
  document.title = `${models.map(({ name }) => name).join(", ")} - xaimaps`;
  difference = new Difference();
  byId("alpha").addEventListener("input", () => views().forEach((view) => view.paint()));
  byId("subtract").addEventListener("change", () => difference.refresh());
}

async function showSaved() {
  ({ about } = shown);
  number = 0;
  present();
  document.body.classList.add("saved");
  for (const id of ["controls", "pair", "save"]) byId(id).hidden = true;
  for (const [index, picture] of Object.entries(shown.pictures)) {
    picture.image = await loaded(picture.view);
    Object.assign(models[index], { picture, number });
  }
  panels.push(...shown.maps.map(({ model, method }) => new Panel(models[model], method)));
  resize(panels.length);
  reveal();
  for (const [index, panel] of panels.entries()) {
    panel.models.disabled = panel.methods.disabled = true;
    panel.show(shown.maps[index], await loaded(shown.maps[index].heatmap));
  }
  say(panels[0].seen.name);
}

async function start() {
  about = await ask("about");
  present();
  listen();
  byId("both").checked = models.length > 1;
  resize(byId("both").checked ? 2 : 1);
  byId("pair").hidden = models.length < 2 && models[0].methods.length < 2;
  about.pictures.forEach(([value, name]) => offer(value, name));
  refresh();
  models.forEach((model) => model.scrollToLayer());
  if (about.pictures.length) await choose(about.pictures[0][0]);
}

if (shown.notebook) window.addEventListener("message", hear);
attempt(shown.maps ? showSaved : start);
