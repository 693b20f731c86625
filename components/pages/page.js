// Adds outlines, handles, names under the pointer, order and zoom to a page. Everything that must be read is in the
// HTML already. Names come from users: only textContent is set.
"use strict";
(() => {
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const first = (selector, within = document) => within.querySelector(selector);
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
document.documentElement.classList.add("js");
const classes = JSON.parse(first("#classes")?.textContent ?? "[]"); // [{name, color, clear}] by id
const colors = classes.map(({ color }) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
const byColor = new Map(colors.map(([red, green, blue], id) => [red << 16 | green << 8 | blue, id]));
const transparent = classes.flatMap(({ clear }, id) => (clear ? [id] : []));
const VOID = -1, WRONG = [240, 96, 0];
const state = { hovered: -1, pinned: new Set(), strength: 0.45 };
const shows = (id) => (state.hovered >= 0 ? id === state.hovered : !state.pinned.size || state.pinned.has(id));
const chosen = () => state.hovered >= 0 || state.pinned.size > 0;

// Masks are PNGs in the classes' colours. Without opacity: no label; with an opacity of n/255: the n-th clear class.
const masks = new WeakMap();
all("[data-of]").forEach((pic) => { // a second place for a picture, which the page holds once
  const from = document.getElementById(pic.dataset.of);
  pic.style.setProperty("--ratio", from.style.getPropertyValue("--ratio"));
  all("img", from).forEach((image) => pic.append(image.cloneNode()));
});
async function read(image) {
  if (masks.has(image)) return masks.get(image);
  await image.decode();
  const width = image.naturalWidth, height = image.naturalHeight, canvas = make("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, width, height).data, ids = new Int16Array(width * height);
  let unknown = 0;
  for (let at = 0; at < ids.length; at++) {
    const alpha = data[4 * at + 3];
    const id = alpha === 0 ? VOID : alpha < 128 ? transparent[alpha - 1]
      : byColor.get(data[4 * at] << 16 | data[4 * at + 1] << 8 | data[4 * at + 2]);
    if (id === undefined) unknown++;
    ids[at] = id ?? VOID;
  }
  const mask = unknown ? null : { width, height, ids }; // some browsers falsify what is read: then the image itself is shown
  masks.set(image, mask);
  return mask;
}

// Enlarge ids: a new pixel takes the class with the largest bilinear weight, so that outlines are smooth.
function enlarge({ width, height, ids }, times) {
  if (times < 2) return { width, height, ids };
  const wide = width * times, tall = height * times, out = new Int16Array(wide * tall);
  for (let row = 0; row < tall; row++) {
    const v = (row + 0.5) / times - 0.5, top = Math.max(0, Math.floor(v)), low = Math.min(height - 1, top + 1), down = Math.max(0, v - top);
    for (let column = 0; column < wide; column++) {
      const u = (column + 0.5) / times - 0.5, left = Math.max(0, Math.floor(u)), right = Math.min(width - 1, left + 1), over = Math.max(0, u - left);
      const a = ids[top * width + left], b = ids[top * width + right], c = ids[low * width + left], d = ids[low * width + right];
      let best = a;
      if (a !== b || a !== c || a !== d) {
        const parts = [[a, (1 - over) * (1 - down)], [b, over * (1 - down)], [c, (1 - over) * down], [d, over * down]];
        let most = -1;
        for (const [id] of parts) {
          const weight = parts.reduce((sum, [other, share]) => sum + (other === id ? share : 0), 0);
          if (weight > most) { most = weight; best = id; }
        }
      }
      out[row * wide + column] = best;
    }
  }
  return { width: wide, height: tall, ids: out };
}

// Paint a mask: a fill with an outline in the full colour. With `truth`, paint only what is wrong.
function paint(canvas, { width, height, ids }, truth) {
  const picture = new ImageData(width, height), data = picture.data;
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at++) {
    const id = ids[at];
    let color = colors[id], alpha = 0;
    if (truth) {
      const real = truth.ids[at];
      if (real !== VOID && real !== id && (!chosen() || shows(real) || shows(id))) { color = WRONG; alpha = 0.82; }
    } else if (color && !classes[id].clear) {
      const edge = (x && ids[at - 1] !== id) || (x < width - 1 && ids[at + 1] !== id) || (y && ids[at - width] !== id) || (y < height - 1 && ids[at + width] !== id);
      alpha = !shows(id) ? 0.04 : edge ? Math.min(1, 2.2 * state.strength) : chosen() ? Math.max(0.6, state.strength) : state.strength;
    }
    if (alpha) data.set([...color, 255 * alpha], 4 * at);
  }
  canvas.width = width; canvas.height = height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
function canvasIn(box, name) {
  const found = first("canvas." + name, box);
  if (found) return found;
  const canvas = make("canvas", "", name);
  canvas.setAttribute("aria-hidden", "true");
  const before = first(".handle, .zone", box);
  return before ? box.insertBefore(canvas, before) : box.appendChild(canvas);
}
const times = (mask, pixels) => Math.max(1, Math.min(4, Math.ceil(pixels * Math.min(2, devicePixelRatio) / mask.width)));

// Pictures are painted when they come near the window.
async function draw(pic) {
  const view = pic.hovered ? pic.dataset.hover : pic.dataset.view, truth = first(".truth", pic), prediction = first("img.prediction", pic), canvas = canvasIn(pic, "over");
  const turn = pic.turn = (pic.turn ?? 0) + 1; // a later call overtakes one that still decodes a mask
  pic.classList.toggle("shows-truth", view === "truth");
  pic.classList.toggle("errors", view === "errors");
  pic.classList.toggle("shows-uncertainty", view === "uncertainty");
  if (view === "photograph" || view === "uncertainty") { pic.classList.add("drawn"); canvas.hidden = true; return; }
  const mask = await read(view === "truth" ? truth : prediction), real = view === "errors" ? await read(truth) : null;
  if (pic.turn !== turn) return;
  const readable = mask && (view !== "errors" || real);
  pic.classList.toggle("drawn", Boolean(readable));
  canvas.hidden = !readable;
  if (!readable) return;
  const scale = times(mask, pic.clientWidth || 300);
  paint(canvas, enlarge(mask, scale), real && enlarge(real, scale));
}
const near = new Set();
const watcher = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) => {
  near[isIntersecting ? "add" : "delete"](target);
  if (isIntersecting) draw(target);
}), { rootMargin: "300px" });
const pictures = all(".pic").filter((pic) => first(".mask", pic));
pictures.forEach((pic) => watcher.observe(pic));
addEventListener("beforeprint", () => pictures.forEach(draw));
const redraw = () => { near.forEach(draw); stages.forEach((stage) => stage.draw()); };

// Names of the classes under the pointer.
const tip = document.body.appendChild(make("div", "", "tip"));
tip.hidden = true;
function place(x, y) {
  tip.hidden = false;
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18) + "px";
}
const nameOf = (id) => classes[id]?.name ?? "no label";
function at(mask, box, event) {
  const area = box.getBoundingClientRect();
  const column = Math.floor((event.clientX - area.left) / area.width * mask.width), row = Math.floor((event.clientY - area.top) / area.height * mask.height);
  return mask.ids[Math.max(0, Math.min(mask.height - 1, row)) * mask.width + Math.max(0, Math.min(mask.width - 1, column))];
}
async function names(box, truth, prediction, event) {
  const real = truth && await read(truth), found = prediction && await read(prediction), rows = [];
  const [one, other] = first("[data-masks]")?.dataset.masks.split(" ") ?? ["truth", "prediction"];
  if (real) rows.push([one, nameOf(at(real, box, event))]);
  if (found) rows.push([other, nameOf(at(found, box, event))]);
  return rows;
}
const rowOf = ([key, value]) => { const row = make("span", key); row.append(make("strong", value)); return row; };
pictures.forEach((pic) => {
  pic.addEventListener("pointermove", async (event) => {
    if (event.pointerType === "touch") return;
    pic.pointed = true;
    const rows = await names(pic, first(".truth", pic), first("img.prediction", pic), event);
    if (!rows.length || !pic.pointed) return;
    tip.replaceChildren(...rows.map(rowOf));
    place(event.clientX, event.clientY);
  });
  pic.addEventListener("pointerleave", () => { pic.pointed = false; tip.hidden = true; });
  if (!pic.dataset.hover) return;
  for (const begin of ["pointerenter", "focus"]) pic.addEventListener(begin, () => {
    pic.hovered = pic.dataset.view === "photograph";
    draw(pic);
  });
  for (const end of ["pointerleave", "blur"]) pic.addEventListener(end, () => { pic.hovered = false; draw(pic); });
});

// A stage: photograph, truth and prediction under two handles.
const VIEWS = { compare: [34, 67], photograph: [100, 100], truth: [0, 100], prediction: [0, 0], errors: [0, 0] };
class Stage {
  constructor(box) {
    this.box = box; this.tools = box.closest("[data-tools]") ?? document; this.view = "compare";
    this.handles = { a: first(".handle-a", box), b: first(".handle-b", box) };
    this.truth = first("img.truth", box); this.prediction = first("img.prediction", box);
    for (const [name, handle] of Object.entries(this.handles)) handle?.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -2, ArrowRight: 2, Home: -100, End: 100 }[event.key];
      if (by) { event.preventDefault(); event.stopPropagation(); this.move(name, this.position[name] + by); }
    });
    box.addEventListener("pointerdown", (event) => {
      const x = this.x(event), { a, b } = this.position;
      const handle = event.target.closest(".handle");
      this.dragged = !this.truth ? "b" : handle ? handle.dataset.handle : Math.abs(x - a) < Math.abs(x - b) || (a === b && x < a) ? "a" : "b";
      box.setPointerCapture(event.pointerId); this.move(this.dragged, x);
    });
    box.addEventListener("pointermove", (event) => (this.dragged ? this.move(this.dragged, this.x(event)) : this.name(event)));
    for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, () => { this.dragged = null; });
    all("[data-show]", this.tools).forEach((button) => button.addEventListener("click", () => this.show(button.dataset.show)));
    this.show("compare");
  }
  x(event) { const area = this.box.getBoundingClientRect(); return 100 * (event.clientX - area.left) / area.width; }
  move(name, x) {
    const to = Math.max(0, Math.min(100, x)), { a, b } = this.position, wasErrors = this.view === "errors";
    this.view = "compare";
    this.set(...(!this.truth ? [to, to] : name === "a" ? [to, Math.max(to, b)] : [Math.min(to, a), to]));
    this.press("compare");
    if (wasErrors) this.draw();
  }
  set(a, b) {
    if (!this.truth) a = b;
    this.position = { a, b };
    this.box.classList.toggle("whole", (a === b && (a === 0 || a === 100)) || b - a === 100);
    for (const [name, value] of Object.entries(this.position)) {
      this.box.style.setProperty("--" + name, value + "%");
      this.handles[name]?.setAttribute("aria-valuenow", Math.round(value));
    }
    const room = { photograph: a, truth: b - a, prediction: 100 - b }, pixel = this.box.clientWidth / 100;
    for (const [name, share] of Object.entries(room)) {
      const zone = first(".zone-" + name, this.box);
      if (zone) zone.style.visibility = share * pixel > 88 ? "visible" : "hidden";
    }
  }
  press(view) { all("[data-show]", this.tools).forEach((button) => button.setAttribute("aria-pressed", button.dataset.show === view)); }
  show(view) {
    this.view = view; this.press(view); this.set(...VIEWS[view]); this.draw();
  }
  load(pic) {
    all("img", this.box).forEach((image) => image.remove());
    this.box.prepend(...all("img", pic).map((image) => image.cloneNode()));
    this.truth = first("img.truth", pic); this.prediction = first("img.prediction", pic);
    for (const name of ["a"]) if (this.handles[name]) this.handles[name].hidden = !this.truth;
    const zone = first(".zone-truth", this.box);
    if (zone) zone.hidden = !this.truth;
    this.box.style.setProperty("--ratio", getComputedStyle(pic).getPropertyValue("--ratio"));
    this.show(this.view);
  }
  async draw() {
    if (!this.prediction || !this.box.clientWidth) return;
    const turn = this.turn = (this.turn ?? 0) + 1;
    const found = await read(this.prediction), real = this.truth && await read(this.truth), wrong = this.view === "errors" && real;
    if (this.turn !== turn) return;
    this.box.classList.toggle("errors", Boolean(wrong));
    const zone = first(".zone-prediction", this.box);
    if (zone) zone.textContent = wrong ? "Wrong pixels" : "Prediction";
    if (!found || (this.truth && !real)) return;
    this.box.classList.add("drawn");
    const scale = times(found, this.box.clientWidth), large = enlarge(found, scale), largeReal = real && enlarge(real, scale);
    if (real) paint(canvasIn(this.box, "truth"), largeReal);
    paint(canvasIn(this.box, "prediction"), large, wrong ? largeReal : null);
  }
  async name(event) {
    const rows = await names(this.box, this.truth, this.prediction, event), out = first(".readout", this.tools);
    if (!out) return;
    const wrong = rows.length === 2 && rows[0][1] !== rows[1][1] && rows[0][1] !== "no label";
    out.replaceChildren(...rows.flatMap(([key, value], number) => [number ? " · " + key + " " : key + " ", make("b", value)]), make("span", wrong ? " · wrong" : "", "warn"));
  }
}
const stages = all(".stage").map((box) => new Stage(box));
let redrawing;
addEventListener("resize", () => { clearTimeout(redrawing); redrawing = setTimeout(() => stages.forEach((stage) => stage.show(stage.view)), 200); });
all(".strip [data-load]").forEach((button) => button.addEventListener("click", () => {
  all(".strip [data-load]").forEach((other) => other.setAttribute("aria-pressed", other === button));
  stages[0].load(document.getElementById(button.dataset.load));
  const title = first("[data-loaded]");
  if (title) title.textContent = button.dataset.title;
}));

// Zoom: the same stage in a dialog; the arrow keys go on to the next picture.
const dialog = first("dialog"), cards = () => all("#cards .card").filter((card) => !card.hidden);
if (dialog) {
  const zoom = stages.find(({ box }) => dialog.contains(box));
  let current = 0, opener = null;
  const open = (number) => {
    const shown = cards();
    if (!shown.length) return;
    current = (number + shown.length) % shown.length;
    const { name, said } = shown[current].dataset;
    first(".title", dialog).replaceChildren(make("b", name), make("span", ` ${said} · ${current + 1} of ${shown.length}`, "soft"));
    if (!dialog.open) { opener = document.activeElement; dialog.showModal(); }
    zoom.load(first(".pic", shown[current]));
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) open(cards().indexOf(document.getElementById(button.dataset.open).closest(".card")));
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => opener?.focus());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) open(current + by);
  });
  all("[data-step]", dialog).forEach((button) => button.addEventListener("click", () => open(current + Number(button.dataset.step))));
}

// Legend, views, strength, order and filter.
const buttons = all("[data-class]");
buttons.forEach((button) => {
  const id = Number(button.dataset.class);
  const hover = (value) => { if (state.hovered !== value) { state.hovered = value; redraw(); } };
  button.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && hover(id));
  button.addEventListener("focus", () => button.matches(":focus-visible") && hover(id));
  for (const end of ["pointerleave", "blur"]) button.addEventListener(end, () => hover(-1));
  button.addEventListener("click", () => {
    state.pinned[state.pinned.has(id) ? "delete" : "add"](id);
    buttons.forEach((other) => other.setAttribute("aria-pressed", state.pinned.has(Number(other.dataset.class))));
    redraw();
  });
});
all("[data-view-all]").forEach((button) => button.addEventListener("click", () => {
  all("[data-view-all]").forEach((other) => other.setAttribute("aria-pressed", other === button));
  all(".card .pic").filter((pic) => pic.dataset.view).forEach((pic) => { pic.dataset.view = button.dataset.viewAll; });
  redraw();
}));
first("#strength")?.addEventListener("input", ({ target }) => { state.strength = target.value / 100; redraw(); });
const list = first("#cards"), order = first("#order"), only = first("#only"), more = first("#more");
function arrange() {
  const sorted = all(".card", list), by = order?.value ?? "worst", wanted = only?.value ?? "", most = more && !more.hidden ? Number(list.dataset.first) : Infinity;
  const figure = ({ dataset }) => (dataset.iou === "" ? Infinity : Number(dataset.iou));
  sorted.sort(by === "name" ? (one, other) => one.dataset.name.localeCompare(other.dataset.name, undefined, { numeric: true })
    : (one, other) => (by === "best" ? -1 : 1) * (figure(one) - figure(other)));
  let number = 0;
  sorted.forEach((card) => {
    list.append(card);
    const matches = !wanted || card.dataset.classes.split(" ").includes(wanted);
    card.hidden = !matches || number >= most;
    number += matches;
  });
  const shown = first("#shown");
  if (shown) shown.textContent = `${cards().length} of ${sorted.length} images`;
}
if (list) {
  [order, only].forEach((control) => control?.addEventListener("change", arrange));
  more?.addEventListener("click", () => { more.hidden = true; arrange(); });
  if (order || more) arrange();
}

// Charts: values under the pointer, or with the arrow keys.
all("svg[data-values]").forEach((svg) => {
  const values = JSON.parse(svg.dataset.values), cross = first(".cross", svg);
  let current = values.length - 1;
  svg.setAttribute("tabindex", "0");
  const show = (number) => {
    current = Math.max(0, Math.min(values.length - 1, number));
    const { x, title, rows } = values[current], area = svg.getBoundingClientRect(), scale = area.width / svg.viewBox.baseVal.width;
    cross.setAttribute("x1", x); cross.setAttribute("x2", x); cross.style.visibility = "visible";
    tip.replaceChildren(make("b", title), ...rows.map(rowOf));
    place(area.left + x * scale, area.top + 20);
  };
  const hide = () => { tip.hidden = true; cross.style.visibility = "hidden"; };
  svg.addEventListener("pointermove", (event) => {
    const x = (event.clientX - svg.getBoundingClientRect().left) * svg.viewBox.baseVal.width / svg.clientWidth;
    show(values.reduce((best, value, number) => (Math.abs(value.x - x) < Math.abs(values[best].x - x) ? number : best), 0));
  });
  for (const end of ["pointerleave", "blur"]) svg.addEventListener(end, hide);
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(current));
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); show(current + by); }
  });
});

// The confusion matrix: a cell in words.
all("table.confusion").forEach((table) => ["pointerover", "click"].forEach((kind) => table.addEventListener(kind, (event) => {
  const cell = event.target.closest("td[title]");
  if (cell) first("#cell").textContent = cell.title;
})));
})();
