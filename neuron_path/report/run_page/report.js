/* The explorer: it reads the page's data, keeps what is looked at in the address, and draws with plotly.js.
 *
 * A *view* is what one side shows: { class, image, method }, where class and image are places in the data's lists and
 * image is null for the whole class. The *state* is { a, b, filter, neuron, edges }: b is null unless two views are compared,
 * and edges says whether those of an image's path are drawn.
 * A choice changes the state and with it the address; an address from elsewhere changes the state. Text from the data
 * only ever becomes text nodes, or passes `plain` on its way to plotly.js.
 */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);

  // ---------------------------------------------------------------- the data, unpacked

  const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array, float16: Uint16Array };

  function unpack({ type, data: text }) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const values = new ARRAYS[type](bytes.buffer);
    return type === "float16" ? Float32Array.from(values, fromHalf) : values;
  }

  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  const unpackAll = (columns) =>
    Object.fromEntries(Object.entries(columns).map(([name, value]) => [name, value && value.type ? unpack(value) : value]));

  const { blocks: L, topK: k, classes, unit } = data.explorer; // unit: "neuron", or "head"
  const { pictures } = data;
  const images = unpackAll(data.explorer.images);
  const methods = data.explorer.methods.map(unpackAll);
  const n = images.id.length;
  const placeOfImage = new Map(images.id.map((id, place) => [id, place]));
  const members = classes.map(() => []);
  for (let i = 0; i < n; i++) members[images.member[i]].push(i);
  const FILTERS = ["all", "correct", "wrong"];
  const MOST_MARKS = 60; // neurons drawn in a block; a class of thousands of images may use more
  const MOST_PICTURES = 120;

  const className = (index) => data.explorer.classNames[index] ?? String(index);
  const titleOf = (place) => {
    const name = className(classes[place]);
    return name === String(classes[place]) ? name : `${classes[place]} ${name}`;
  };
  const sayCount = (place) => (n < data.explorer.total ? `${members[place].length} of ${data.explorer.sizes[place]}` : String(members[place].length));
  const keyOf = (method) => (methods.filter((one) => one.scorer === method.scorer).length > 1 ? `${method.scorer}/${method.search}` : method.scorer);
  const neuronAt = (method, image, block, slot) => method.paths[(image * L + block) * k + slot];
  const isOnPath = (method, image, block, neuron) => {
    const begin = (image * L + block) * k;
    for (let slot = begin; slot < begin + k; slot++) if (method.paths[slot] === neuron) return true;
    return false;
  };
  const passes = (image, filter) => filter === "all" || images.outcome[image] === (filter === "correct" ? 1 : 0);
  const imagesOf = (view, filter) => (view.image !== null ? [view.image] : members[view.class].filter((i) => passes(i, filter)));

  // ---------------------------------------------------------------- statistics

  /** For each block, how many of these images have each neuron on their path, the most frequent first. */
  function countUsage(method, chosen) {
    return Array.from({ length: L }, (_, block) => {
      const counts = new Map();
      for (const image of chosen) {
        for (let slot = 0; slot < k; slot++) {
          const neuron = neuronAt(method, image, block, slot);
          counts.set(neuron, (counts.get(neuron) ?? 0) + 1);
        }
      }
      return new Map([...counts].sort((one, other) => other[1] - one[1] || one[0] - other[0]));
    });
  }

  /** How many images of each class have one neuron on their path, and how many images there are. */
  function countNeuron(method, block, neuron, filter) {
    const counts = new Int32Array(classes.length), sizes = new Int32Array(classes.length);
    for (let i = 0; i < n; i++) {
      if (!passes(i, filter)) continue;
      sizes[images.member[i]] += 1;
      counts[images.member[i]] += isOnPath(method, i, block, neuron);
    }
    return { counts, sizes };
  }

  const kept = new Map();
  function once(key, make) {
    if (!kept.has(key)) kept.set(key, make());
    return kept.get(key);
  }
  const usageOfClass = (method, place, filter) =>
    once(`${methods.indexOf(method)} ${place} ${filter}`, () => countUsage(method, members[place].filter((i) => passes(i, filter))));
  const usageOf = (view, filter) =>
    view.image !== null ? countUsage(methods[view.method], [view.image]) : usageOfClass(methods[view.method], view.class, filter);

  function cosine(one, other) {
    let dot = 0, left = 0, right = 0;
    for (let block = 0; block < L; block++) {
      for (const [neuron, count] of one[block]) {
        left += count * count;
        dot += count * (other[block].get(neuron) ?? 0);
      }
      for (const count of other[block].values()) right += count * count;
    }
    return left && right ? dot / Math.sqrt(left * right) : NaN;
  }

  /** Mean over blocks of the Jaccard index of two images' path neurons. */
  function overlap(image, method, otherImage, otherMethod) {
    let sum = 0;
    for (let block = 0; block < L; block++) {
      let common = 0;
      for (let slot = 0; slot < k; slot++) common += isOnPath(method, image, block, neuronAt(otherMethod, otherImage, block, slot));
      sum += common / (2 * k - common);
    }
    return sum / L;
  }

  /** Cosine similarity of all classes: an array of C rows; NaN where a class has no image left. */
  function similarities(method, filter) {
    const C = classes.length;
    const users = new Map();
    const squares = new Float64Array(C);
    classes.forEach((_, place) =>
      usageOfClass(method, place, filter).forEach((counts, block) => {
        for (const [neuron, count] of counts) {
          const key = neuron * L + block;
          if (!users.has(key)) users.set(key, []);
          users.get(key).push(place, count);
          squares[place] += count * count;
        }
      }),
    );
    const rows = Array.from({ length: C }, () => new Float64Array(C));
    for (const list of users.values()) {
      for (let i = 0; i < list.length; i += 2) {
        for (let j = 0; j < i; j += 2) rows[list[i]][list[j]] += list[i + 1] * list[j + 1];
      }
    }
    for (let i = 0; i < C; i++) {
      rows[i][i] = squares[i] ? 1 : NaN;
      for (let j = 0; j < i; j++) rows[i][j] = rows[j][i] = (rows[i][j] + rows[j][i]) / Math.sqrt(squares[i] * squares[j]);
    }
    return rows;
  }

  function median(values) {
    const sorted = values.filter(Number.isFinite).sort((one, other) => one - other);
    const middle = sorted.length >> 1;
    return sorted.length ? (sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2) : NaN;
  }

  // ---------------------------------------------------------------- words

  const number = (value, digits = 3) => (Number.isFinite(value) ? String(Number(value.toPrecision(digits))).replace("-", "−") : "not known");
  const percent = (share) => (share > 0 && share < 0.01 ? "< 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`);
  const titled = (word) => word[0].toUpperCase() + word.slice(1);
  const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const short = (text, most = 28) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  function sayOutcome(image) {
    const label = images.label[image];
    const prediction = className(images.prediction[image]);
    if (label < 0) return `predicted ${prediction}, no label`;
    return images.outcome[image] === 1 ? `label and prediction ${prediction}` : `label ${className(label)}, predicted ${prediction}: wrong`;
  }

  function sayView(view, filter) {
    if (view.image !== null) return images.id[view.image];
    const words = filter === "all" ? "" : ` (${filter} predictions)`;
    return `${data.explorer.kind} ${titleOf(view.class)}${words}`;
  }

  // ---------------------------------------------------------------- the state and the address

  const biggest = members.reduce((best, list, place) => (list.length > members[best].length ? place : best), 0);
  let state = { a: { class: biggest, image: null, method: 0 }, b: null, filter: "all", neuron: null, edges: true };
  let hovered = null;

  function addressOf({ a, b, filter, neuron, edges: drawn }) {
    const parameters = new URLSearchParams();
    const add = (side, view) => {
      parameters.set(side, view.image === null ? `class:${classes[view.class]}` : `image:${images.id[view.image]}`);
      parameters.set(`${side}.method`, keyOf(methods[view.method]));
    };
    add("a", a);
    if (b) add("b", b);
    if (filter !== "all") parameters.set("filter", filter);
    if (neuron) parameters.set("neuron", `${neuron.block}.${neuron.neuron}`);
    if (!drawn) parameters.set("edges", "off");
    return `#${parameters}`;
  }

  /** The state that an address names, or null where it names none; `problems` gets what could not be found. */
  function readAddress(hash, problems) {
    const parameters = new URLSearchParams(hash.slice(1));
    if (!parameters.has("a")) return null;
    const read = (side) => {
      const [, kind, name] = /^(class|image):(.*)$/s.exec(parameters.get(side)) ?? [];
      const key = parameters.get(`${side}.method`);
      const method = key === null ? 0 : methods.findIndex((one) => keyOf(one) === key);
      if (method < 0) problems.push(`the method “${key}”`);
      const image = kind === "image" ? (placeOfImage.get(name) ?? -1) : null;
      const place = kind === "class" ? classes.indexOf(Number(name)) : (images.member[image] ?? -1);
      if (place < 0) problems.push(`the ${kind ?? "view"} “${name ?? parameters.get(side)}”`);
      return { class: Math.max(place, 0), image: place < 0 ? null : image, method: Math.max(method, 0) };
    };
    const [block, neuron] = (parameters.get("neuron") ?? "").split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : NaN));
    const known = block < L && neuron < data.explorer.widths[block];
    if (parameters.has("neuron") && !known) problems.push(`the neuron “${parameters.get("neuron")}”`);
    const filter = parameters.get("filter") ?? "all";
    if (!FILTERS.includes(filter)) problems.push(`the filter “${filter}”`);
    return {
      a: read("a"),
      b: parameters.has("b") ? read("b") : null,
      filter: FILTERS.includes(filter) ? filter : "all",
      neuron: known ? { block, neuron } : null,
      edges: parameters.get("edges") !== "off",
    };
  }

  /** Change what is looked at; small steps take the place of the last entry in the browser's history. */
  function go(changes, { small = false } = {}) {
    state = { ...state, ...changes };
    hovered = null;
    byId("status").textContent = "";
    const address = addressOf(state);
    if (small) location.replace(address);
    else location.hash = address;
    draw();
  }

  /** Take up what the address says, when it was followed from elsewhere. */
  function follow() {
    const problems = [];
    const found = readAddress(location.hash, problems);
    if (found) state = found;
    byId("status").textContent = problems.length ? `This report does not hold ${problems.join(", ")}, which the link names.` : "";
    hovered = null;
    draw();
    return Boolean(found);
  }

  // ---------------------------------------------------------------- small pieces of the page

  const byId = (id) => document.getElementById(id);

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name in made && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  /** A button that reads as a link; by its key it keeps the keyboard's focus when the page is drawn again. */
  const link = (text, key, onclick, pressed = null) =>
    element("button", { type: "button", className: "link", onclick, "data-key": key, ...(pressed === null ? {} : { "aria-pressed": String(pressed) }) }, text);

  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  }

  function table(columns, rows) {
    const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
    const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  }

  /** A picture by sample id, with the box of a patch on it. */
  function thumbnail(id, { box = null, large = false } = {}) {
    if (!pictures[id]) return large ? element("span", { className: "thumb none" }) : null;
    const picture = element("img", { src: pictures[id], alt: "" });
    picture.addEventListener("load", () => picture.classList.toggle("small", picture.naturalWidth < 40));
    const frame = element("span", { className: large ? "thumb large" : "thumb" }, picture);
    if (box && box[2] > box[0]) {
      const mark = element("i");
      const [left, top, right, bottom] = box.map((part) => (100 * part) / 65535);
      Object.assign(mark.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
      frame.append(mark);
    }
    return frame;
  }

  // ---------------------------------------------------------------- downloads

  function save(name, text) {
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  function toCsv(columns, rows) {
    const cell = (value) => {
      const text = typeof value === "number" && !Number.isFinite(value) ? "" : String(value ?? "");
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  const fileName = (...parts) => parts.join("-").replaceAll(/[^\w.-]+/g, "_").slice(0, 100);

  function viewCsv(view, filter) {
    const method = methods[view.method];
    const context = usageOfClass(method, view.class, "all");
    const size = members[view.class].length;
    const rows = [];
    if (view.image !== null) {
      const i = view.image;
      for (let block = 0; block < L; block++) {
        for (let slot = 0; slot < k; slot++) {
          const neuron = neuronAt(method, i, block, slot);
          const margin = slot === 0 ? method.margins[i * L + block] : NaN;
          rows.push([images.id[i], method.scorer, method.search, block, slot, neuron, margin, context[block].get(neuron) / size]);
        }
      }
      return toCsv(["sample_id", "scorer", "search", "block", "slot", "neuron", "margin", "share_of_class"], rows);
    }
    const count = imagesOf(view, filter).length;
    usageOf(view, filter).forEach((counts, block) => {
      for (const [neuron, times] of counts) {
        rows.push([classes[view.class], className(classes[view.class]), filter, method.scorer, method.search, block, neuron, times, count, times / count]);
      }
    });
    return toCsv(["class", "class_name", "predictions", "scorer", "search", "block", "neuron", "images", "of_images", "share"], rows);
  }

  // ---------------------------------------------------------------- charts

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function layoutOf(changes) {
    const axis = { zeroline: false, gridcolor: colour("line"), linecolor: colour("line"), tickcolor: colour("line"), automargin: true };
    return {
      margin: { l: 56, r: 14, t: 10, b: 44 },
      paper_bgcolor: colour("card"),
      plot_bgcolor: colour("card"),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("muted") },
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("faint"), font: { color: colour("ink") }, align: "left" },
      showlegend: false,
      hovermode: "closest",
      dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
      ...changes,
      xaxis: { ...axis, ...changes.xaxis },
      yaxis: { ...axis, ...changes.yaxis },
    };
  }

  const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset", showTips: false };

  /** The neurons that a view draws: { block, neuron, count, top }, block by block, the most frequent first. */
  function marksOf(view, filter) {
    return usageOf(view, filter).flatMap((counts, block) =>
      [...counts].slice(0, MOST_MARKS).map(([neuron, count], rank) => ({ block, neuron, count, top: rank === 0 })),
    );
  }

  function tracesOf(side, view, filter, marks, wide) {
    const method = methods[view.method];
    const ink = colour(side);
    const size = imagesOf(view, filter).length;
    const lone = view.image !== null;
    const first = lone ? marks.filter((mark) => mark.neuron === neuronAt(method, view.image, mark.block, 0)) : marks.filter((mark) => mark.top);
    const context = usageOfClass(method, view.class, "all");
    const traces = [];
    if (lone) {
      const others = context.flatMap((counts, block) => [...counts].slice(0, MOST_MARKS).map(([neuron, count]) => ({ block, neuron, count })));
      traces.push(scatter(others, {
        mode: "markers", hoverinfo: "skip",
        marker: { color: colour("faint"), opacity: 0.4, line: { width: 0 }, size: others.map((mark) => 5 + 15 * Math.sqrt(mark.count / members[view.class].length)) },
      }));
    }
    traces.push(scatter(first, { mode: "lines", hoverinfo: "skip", line: placeOfEdges(view) === undefined ? { color: ink, width: lone ? 2 : 1.5 } : { color: colour("faint"), width: 1, dash: "dot" }, opacity: lone ? 1 : 0.7 }));
    traces.push(scatter(marks, {
      mode: "markers",
      name: "neurons",
      marker: {
        color: ink, line: { color: colour("card"), width: 1 },
        size: marks.map((mark) => (lone ? 10 : 5 + 15 * Math.sqrt(mark.count / size))),
        opacity: marks.map((mark) => (lone ? 1 : 0.35 + 0.65 * (mark.count / size))),
      },
      text: marks.map((mark) => hoverText(view, mark, size)),
      hovertemplate: "%{text}<extra></extra>",
    }));
    if (wide) {
      traces.push(scatter(first, {
        mode: "text", hoverinfo: "skip", text: first.map((mark) => `${mark.neuron}<br> `), textposition: "top center",
        textfont: { size: 11, color: colour("ink"), shadow: `0 0 2px ${colour("card")}, 0 0 3px ${colour("card")}` }, cliponaxis: false,
      }));
    }
    const ring = hovered ?? state.neuron;
    const marked = ring ? marks.filter((mark) => mark.block === ring.block && mark.neuron === ring.neuron) : [];
    traces.push(scatter(marked, { mode: "markers", hoverinfo: "skip", marker: { symbol: "circle-open", size: 24, color: colour("ink"), line: { width: 2 } } }));
    return traces;
  }

  const scatter = (marks, options) => ({ type: "scatter", x: marks.map((mark) => mark.block), y: marks.map((mark) => mark.neuron), ...options });

  function hoverText(view, mark, size) {
    const begin = `<b>Block ${mark.block}, ${unit} ${mark.neuron}</b><br>`;
    if (view.image === null) return `${begin}on the path of ${mark.count} of ${plural(size, "image")} (${percent(mark.count / size)})`;
    const method = methods[view.method];
    const share = usageOfClass(method, view.class, "all")[mark.block].get(mark.neuron) / members[view.class].length;
    return `${begin}margin ${number(method.margins[view.image * L + mark.block])}<br>on ${percent(share)} of the paths of its class`;
  }

  const panels = new Map();

  function makePanel(side) {
    const panel = document.getElementById("panel").content.firstElementChild.cloneNode(true);
    panel.classList.add(side);
    panel.querySelector("h3").textContent = side.toUpperCase();
    const parts = Object.fromEntries([...panel.querySelectorAll("[data-role]")].map((part) => [part.dataset.role, part]));
    const change = (changes, options) => go({ [side]: { ...state[side], ...changes } }, options);
    options(parts.method, methods.map((method, place) => [String(place), method.name]), "0");
    options(parts.class, classes.map((_, place) => [String(place), `${titleOf(place)} (${sayCount(place)})`]), "0");
    parts.class.addEventListener("change", () => change({ class: Number(parts.class.value), image: null }));
    parts.image.addEventListener("change", () => change({ image: parts.image.value === "" ? null : Number(parts.image.value) }));
    parts.method.addEventListener("change", () => change({ method: Number(parts.method.value) }));
    parts.csv.addEventListener("click", () => {
      const view = state[side];
      save(`${fileName("path", view.image === null ? `class_${classes[view.class]}` : images.id[view.image], methods[view.method].scorer)}.csv`, viewCsv(view, state.filter));
    });
    parts.png.addEventListener("click", () =>
      Plotly.downloadImage(parts.plot, { format: "png", width: parts.plot.clientWidth, height: parts.plot.clientHeight, scale: 2, filename: fileName("path", side) }),
    );
    parts.plot.addEventListener("keydown", (event) => moveNeuron(side, event));
    byId("panels").append(panel);
    panels.set(side, { panel, parts, change, listening: false });
  }

  /** Arrow keys: to the most frequent neuron of the block beside, or to the next neuron up or down in the same block. */
  function moveNeuron(side, event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const marks = marksOf(state[side], state.filter);
    if (!marks.length) return;
    const now = shownNeuron();
    const block = Math.min(L - 1, Math.max(0, now.block + step[0]));
    const own = marks.filter((mark) => mark.block === block);
    let next = own[0];
    if (step[1]) {
      const beyond = own.filter((mark) => (mark.neuron - now.neuron) * step[1] > 0);
      next = beyond.reduce((best, mark) => (best && Math.abs(best.neuron - now.neuron) <= Math.abs(mark.neuron - now.neuron) ? best : mark), null);
    }
    if (next) go({ neuron: { block: next.block, neuron: next.neuron } }, { small: true });
  }

  function drawPanel(side) {
    const { panel, parts } = panels.get(side);
    const view = state[side];
    panel.hidden = !view;
    if (!view) return;
    const chosen = imagesOf(view, state.filter);
    const listed = members[view.class].filter((i) => passes(i, state.filter) || i === view.image);
    parts.class.value = String(view.class);
    const mark = (i) => ["✗ ", "✓ ", ""][images.outcome[i]];
    options(parts.image, [["", `all ${listed.length} of the class`], ...listed.map((i) => [String(i), mark(i) + images.id[i]])], view.image === null ? "" : String(view.image));
    parts.method.value = String(view.method);
    drawSubject(parts.subject, view, chosen);
    drawChart(side, view);
    drawStrip(side, view, listed);
    parts.table.replaceChildren(pathTable(side, view), ...edgeTable(side, view));
  }

  function drawSubject(place, view, chosen) {
    if (view.image === null) {
      const labelled = chosen.filter((i) => images.outcome[i] < 2);
      const right = labelled.filter((i) => images.outcome[i] === 1).length;
      const words = labelled.length ? `, ${right} of ${labelled.length} predicted correctly` : "";
      place.replaceChildren(element("p", {}, `${plural(chosen.length, "image")} of ${sayView(view, state.filter)}${words}.`));
      return;
    }
    const i = view.image;
    const outcome = element("span", { className: ["wrong", "right", ""][images.outcome[i]] }, sayOutcome(i));
    const target = `Target ${className(images.target[i])}, probability ${number(images.probability[i])}; score of the path ${number(methods[view.method].scores[i])}.`;
    const words = element("div", {}, element("p", {}, element("strong", {}, images.id[i]), " — ", outcome, "."), element("p", { className: "note" }, target));
    place.replaceChildren(...[thumbnail(images.id[i], { large: Boolean(pictures[images.id[i]]) }), words].filter(Boolean));
  }

  function drawChart(side, view) {
    const { parts } = panels.get(side);
    const marks = marksOf(view, state.filter);
    const highest = Math.max(...data.explorer.widths);
    const wide = parts.plot.clientWidth > 45 * L;
    const layout = layoutOf({
      xaxis: { title: { text: "Block" }, range: [-0.6, L - 0.4], dtick: L > 14 ? Math.ceil(L / 12) : 1, tick0: 0, fixedrange: true },
      yaxis: { title: { text: data.explorer.axis }, range: [-0.04 * highest, 1.07 * highest], nticks: 8 },
      annotations: marks.length ? [] : [{ text: "No such image here", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }],
      shapes: edgeShapes(view, highest),
    });
    Plotly.react(parts.plot, tracesOf(side, view, state.filter, marks, wide), layout, CONFIG);
    listen(side);
    parts.plot.setAttribute("aria-label", `Path of ${sayView(view, state.filter)} by ${methods[view.method].name}: blocks from left to right, ${unit}s from bottom to top. Arrow keys move among ${unit}s.`);
    const hidden = usageOf(view, state.filter).reduce((sum, counts) => sum + Math.max(0, counts.size - MOST_MARKS), 0);
    const words =
      (view.image === null
        ? `Each mark is a ${unit} on the path of some of these images, the larger the more of them. The line joins the most frequent ${unit} of each block.`
        : `The image's path. Grey: the ${unit}s on the paths of all images of its class, the larger the more of them.${k > 1 ? ` The line joins the first ${unit} of each block.` : ""}`) +
      (hidden ? ` Of each block the ${MOST_MARKS} most frequent ${unit}s are drawn; the CSV has all.` : "");
    parts.caption.replaceChildren(words, ...edgeNote(side, view));
  }

  function listen(side) {
    const own = panels.get(side);
    if (own.listening) return;
    own.listening = true;
    const { plot } = own.parts;
    const at = (event) => ({ block: event.points[0].x, neuron: event.points[0].y });
    plot.on("plotly_hover", (event) => {
      hovered = at(event);
      drawNeuron();
    });
    plot.on("plotly_unhover", () => {
      hovered = null;
      drawNeuron();
    });
    plot.on("plotly_click", (event) => go({ neuron: at(event) }));
  }

  function drawStrip(side, view, listed) {
    const { parts, change } = panels.get(side);
    const pictured = listed.filter((i) => pictures[images.id[i]]);
    const shown = pictured.slice(0, MOST_PICTURES);
    const left = listed.length - shown.length;
    const notes = [];
    if (shown.length && left) notes.push(`and ${plural(left, "image")} without a picture here`);
    if (shown.some((i) => images.outcome[i] === 0)) notes.push("framed: predicted wrongly");
    parts.strip.replaceChildren(
      ...(notes.length ? [element("p", { className: "note" }, notes.join("; "))] : []),
      ...shown.map((i) =>
        element("button", {
          type: "button", className: images.outcome[i] === 0 ? "wrong" : "", title: `${images.id[i]}: ${sayOutcome(i)}`,
          "aria-label": `${images.id[i]}: ${sayOutcome(i)}`, "aria-pressed": String(i === view.image), "data-key": `${side} image ${i}`,
          onclick: () => change({ image: i === view.image ? null : i }),
        }, thumbnail(images.id[i])),
      ),
    );
  }

  function pathTable(side, view) {
    const method = methods[view.method];
    const size = imagesOf(view, state.filter).length;
    const pick = (block, neuron) =>
      link(String(neuron), `${side} path ${block} ${neuron}`, () => go({ neuron: { block, neuron } }, { small: true }), isNeuron(shownNeuron(), block, neuron));
    const rows = usageOf(view, state.filter).flatMap((counts, block) => {
      const [first] = counts;
      if (!first) return [];
      if (view.image === null) return [[String(block), pick(block, first[0]), `${first[1]} of ${size}`, percent(first[1] / size), String(counts.size)]];
      const context = usageOfClass(method, view.class, "all")[block];
      return Array.from({ length: k }, (_, slot) => {
        const neuron = neuronAt(method, view.image, block, slot);
        const margin = slot === 0 ? number(method.margins[view.image * L + block]) : "";
        return [String(block), pick(block, neuron), margin, percent(context.get(neuron) / members[view.class].length)];
      });
    });
    return view.image === null
      ? table(["Block", `Most frequent ${unit}`, "Images", "Share", `${titled(unit)}s in use`], rows)
      : table(["Block", titled(unit), "Margin", "Share of its class"], rows);
  }

  // ---------------------------------------------------------------- a neuron

  const isNeuron = (one, block, neuron) => one && one.block === block && one.neuron === neuron;

  /** What is pointed at, else what is chosen, else the neuron that most of view A's images share. */
  function shownNeuron() {
    if (hovered ?? state.neuron) return hovered ?? state.neuron;
    const best = marksOf(state.a, state.filter).reduce((one, other) => (one && one.count >= other.count ? one : other), null);
    return best ?? { block: 0, neuron: 0 };
  }

  function drawNeuron() {
    const { block, neuron } = shownNeuron();
    const place = byId("neuron");
    place.hidden = false;
    const head = element("h3", {}, `${titled(unit)} ${neuron} of block ${block}`);
    const columns = element("div", { className: "columns" }, neuronStatistics(block, neuron), neuronClasses(block, neuron));
    place.replaceChildren(...[head, columns, neuronMaps(block, neuron), neuronEvidence(block, neuron)].filter(Boolean));
    for (const side of panels.keys()) markNeuron(side, block, neuron);
  }

  /** Ring the neuron in a chart without drawing the chart again. */
  function markNeuron(side, block, neuron) {
    const { parts, panel } = panels.get(side);
    if (panel.hidden || !parts.plot.data) return;
    const there = marksOf(state[side], state.filter).some((mark) => isNeuron(mark, block, neuron));
    Plotly.restyle(parts.plot, { x: [there ? [block] : []], y: [there ? [neuron] : []] }, [parts.plot.data.length - 1]);
  }

  function neuronStatistics(block, neuron) {
    const rows = ["a", "b"].filter((side) => state[side]).map((side) => {
      const view = state[side];
      const counts = usageOfClass(methods[view.method], view.class, state.filter)[block];
      const own = members[view.class].filter((i) => passes(i, state.filter));
      const count = counts.get(neuron) ?? 0;
      const rank = [...counts.keys()].indexOf(neuron);
      const margins = own.filter((i) => neuronAt(methods[view.method], i, block, 0) === neuron).map((i) => methods[view.method].margins[i * L + block]);
      return [
        `${state.b ? `${side.toUpperCase()}: ` : ""}${short(titleOf(view.class), 20)}, ${methods[view.method].name}`,
        own.length ? `${count} of ${own.length} (${percent(count / own.length)})` : "no image",
        rank < 0 ? "–" : `${rank + 1} of ${counts.size}`,
        margins.length ? number(median(margins), 2) : "–",
      ];
    });
    const sum = (values) => values.reduce((one, other) => one + other, 0);
    const everywhere = methods.map((method) => [method.name, countNeuron(method, block, neuron, state.filter)]);
    const lines = everywhere.map(([name, { counts, sizes }]) => [name, sum(counts), sum(sizes)]).map(([name, count, total]) => [`all images, ${name}`, total ? `${count} of ${total} (${percent(count / total)})` : "no image", "", ""]);
    return element("div", {}, element("h4", {}, "On the path of"), table(["Images of", "Images", "Rank", "Median margin"], [...rows, ...lines]));
  }

  function neuronClasses(block, neuron) {
    const method = methods[state.a.method];
    const { counts, sizes } = countNeuron(method, block, neuron, state.filter);
    const shares = classes
      .map((_, place) => ({ place, share: sizes[place] ? counts[place] / sizes[place] : 0 }))
      .filter(({ share }) => share > 0)
      .sort((one, other) => other.share - one.share || one.place - other.place);
    const bars = shares.slice(0, 6).map(({ place, share }) => {
      const fill = element("span");
      fill.style.width = `${100 * share}%`;
      const choose = link(short(titleOf(place)), `class ${place}`, () => go({ a: { ...state.a, class: place, image: null }, neuron: { block, neuron } }));
      return element("li", {}, choose, element("span", { className: "bar" }, fill), element("span", { className: "number" }, percent(share)));
    });
    const rest = shares.length > 6 ? element("p", { className: "note" }, `and ${(shares.length - 6).toLocaleString("en")} more, less often`) : null;
    const none = shares.length ? null : element("p", { className: "note" }, "None, with these images and this method.");
    return element("div", {}, element("h4", {}, `Classes on whose paths it is, ${method.name}`), element("ul", { className: "bars" }, ...bars), rest, none);
  }

  const evidence = data.evidence && unpackAll(data.evidence);
  const evidenceRows = new Map();
  if (evidence) {
    evidence.block.forEach((block, row) => {
      const key = `${block}.${evidence.neuron[row]}`;
      if (!evidenceRows.has(key)) evidenceRows.set(key, []);
      evidenceRows.get(key).push(row);
    });
  }

  const maps = evidence?.maps && unpackAll(evidence.maps);
  const mapRows = new Map(maps ? Array.from(maps.block, (block, row) => [`${maps.ids[maps.image[row]]} ${block}.${maps.neuron[row]}`, row]) : []);

  // ---------------------------------------------------------------- edges of an image's path

  const edges = evidence?.edges && unpackAll(evidence.edges);
  const edgePlaces = new Map(edges ? edges.ids.map((id, place) => [id, place]) : []);

  /** The place among the images with edges, undefined where none are drawn; they are of the first method's paths. */
  const placeOfEdges = (view) => (state.edges && view.image !== null && view.method === 0 ? edgePlaces.get(images.id[view.image]) : undefined);

  /** The edges that a view draws: { block, neuron, laterBlock, laterNeuron, value }, the strongest first. */
  function edgesOf(view) {
    const place = placeOfEdges(view);
    if (place === undefined) return [];
    return [...edges.image.keys()].filter((row) => edges.image[row] === place).map((row) => ({
      block: edges.block[row], neuron: edges.neuron[row], laterBlock: edges.later_block[row], laterNeuron: edges.later_neuron[row], value: edges.value[row],
    }));
  }

  /** Arcs, the strongest on top: above the straight line between two neurons where the target is raised, else below. */
  function edgeShapes(view, highest) {
    const drawn = edgesOf(view);
    return drawn.map(({ block, neuron, laterBlock, laterNeuron, value }) => {
      const share = Math.abs(value / drawn[0].value);
      const bend = Math.sign(value) * highest * (0.1 + (0.4 * (laterBlock - block)) / L);
      const top = Math.min(1.06 * highest, Math.max(-0.03 * highest, (neuron + laterNeuron) / 2 + bend));
      return {
        type: "path", path: `M${block},${neuron}Q${(block + laterBlock) / 2},${top} ${laterBlock},${laterNeuron}`, layer: "below",
        opacity: 0.5 + 0.4 * share, line: { color: colour(value > 0 ? "a" : "b"), width: Math.max(0.75, 6 * share) },
      };
    }).reverse();
  }

  /** What an edge is and which are hidden; of a view without any, where there are some. */
  function edgeNote(side, view) {
    if (!edges || !state.edges) return [];
    const place = placeOfEdges(view);
    if (place !== undefined) {
      const drawn = edgesOf(view);
      const share = drawn.reduce((sum, { value }) => sum + Math.abs(value), 0) / edges.magnitude[place];
      const count = `${drawn.length} of ${plural(edges.n[place], "edge")} ${drawn.length === 1 ? "is" : "are"} drawn`;
      return [` An arc is what of a ${unit}'s effect passes through a later one, the wider the more: orange and bent up where it raises the target, blue and bent down where it lowers it. ${count}${drawn.length ? `, the largest, with ${percent(share)} of all magnitudes` : ""}.`];
    }
    const known = [...edgePlaces.keys()].map((id) => placeOfImage.get(id)).filter((i) => i !== undefined).sort((one, other) => one - other);
    const own = known.filter((i) => images.member[i] === view.class);
    const next = own.find((i) => i >= view.image) ?? own[0] ?? known[0];
    if (next === undefined) return [];
    const show = () => panels.get(side).change({ class: images.member[next], image: next, method: 0 });
    return [` Edges between ${unit}s are kept of ${plural(known.length, "image")}, on their paths by ${methods[0].name}: `, link("show one", `${side} edges`, show), "."];
  }

  function edgeTable(side, view) {
    const drawn = edgesOf(view);
    if (!drawn.length) return [];
    const pick = (row, block, neuron) =>
      element("span", {}, `${block}: `, link(String(neuron), `${side} edge ${row} ${block}`, () => go({ neuron: { block, neuron } }, { small: true })));
    const rows = drawn.map((edge, row) => [pick(row, edge.block, edge.neuron), pick(row, edge.laterBlock, edge.laterNeuron), edge.value.toExponential(1).replaceAll("-", "−")]);
    return [element("h4", {}, "Edges"), table([`From block: ${unit}`, "Through", "Effect"], rows)];
  }

  /** Where the neuron is active in the images that are chosen. */
  function neuronMaps(block, neuron) {
    const chosen = ["a", "b"].filter((side) => state[side] && state[side].image !== null).map((side) => images.id[state[side].image]);
    if (!maps || !chosen.length) return null;
    const figures = [...new Set(chosen)].map((id) => {
      const row = mapRows.get(`${id} ${block}.${neuron}`);
      return row === undefined
        ? element("p", { className: "note" }, `No map of ${id}: ${maps.ids.includes(id) ? `the ${unit} is not on its path, or sees no patch there` : `${plural(maps.ids.length, "image")} of this report have some`}.`)
        : heatMap(row, id);
    });
    const note = element("p", { className: "note" }, `The ${unit}'s activation at each patch: orange above 0, blue below, the stronger the larger. It says where the ${unit} is active, not what each patch adds to the effect of the path, which neuron_path.heat_map computes from the model.`);
    const all = element("div", {}, element("h4", {}, "Where it is active in the chosen image"), element("div", { className: "maps" }, ...figures), note);
    return element("div", { className: "columns answers" }, all);
  }

  function heatMap(row, id) {
    const size = maps.rows * maps.columns;
    const steps = Array.from(maps.values.subarray(row * size, (row + 1) * size), (byte) => (byte - maps.zero) / 127);
    const values = steps.map((step) => step * maps.largest[row]);
    const over = pictures[id] ? 0.72 : 1; // how much of the picture the strongest patch hides
    const canvas = element("canvas", { width: maps.columns, height: maps.rows });
    const pixels = new ImageData(maps.columns, maps.rows);
    steps.forEach((step, patch) => pixels.data.set([...(step < 0 ? [0, 114, 178] : [213, 94, 0]), 255 * over * Math.abs(step)], 4 * patch));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const best = values.indexOf(Math.max(...values));
    const words = `highest ${number(values[best])} in row ${Math.floor(best / maps.columns)}, column ${best % maps.columns}, lowest ${number(Math.min(...values))}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Activation at each patch of ${id}: ${words}`);
    const frame = thumbnail(id, { large: true });
    frame.append(canvas);
    const rows = values.map((value, patch) => [id, maps.block[row], maps.neuron[row], Math.floor(patch / maps.columns), patch % maps.columns, value]);
    const csv = element("button", { type: "button", onclick: () => save(`${fileName("map", id, maps.block[row], maps.neuron[row])}.csv`, toCsv(["sample_id", "block", "neuron", "row", "column", "activation"], rows)) }, "Data (CSV)");
    return element("figure", {}, frame, element("figcaption", {}, element("p", {}, element("strong", {}, id)), element("p", { className: "note" }, `${words.replace("h", "H")}.`), csv));
  }

  function neuronEvidence(block, neuron) {
    if (!evidence) return null;
    const rows = evidenceRows.get(`${block}.${neuron}`) ?? [];
    if (!rows.length) return element("div", {}, element("h4", {}, "What it answers to"), element("p", { className: "note" }, `Not kept for this ${unit}.`));
    const parts = evidence.kinds.map((kind, place) => {
      const own = rows.filter((row) => evidence.kind[row] === place);
      if (!own.length) return null;
      const title = kind === "image" ? "Images by its activation" : titled(evidence.patchesAre.replace("neuron", unit));
      const values = kind === "image" ? evidence.activation : evidence.patchActivation;
      const figures = own.map((row) => answer(row, values[row], kind === "image" ? null : [...evidence.box.slice(4 * row, 4 * row + 4)]));
      return element("div", {}, element("h4", {}, title), element("div", { className: "evidence" }, ...figures));
    });
    const note = element("p", { className: "note" }, `Beneath each image: the ${unit}'s activation, and the image's ${data.explorer.kind}.${evidence.shown < evidence.nTop ? ` Of ${evidence.nTop} images that the run keeps for a ${unit}, the page has the first ${evidence.shown}.` : ""}`);
    return element("div", {}, element("div", { className: "columns answers" }, ...parts.filter(Boolean)), note);
  }

  function answer(row, value, box) {
    const id = evidence.ids[evidence.image[row]];
    const image = placeOfImage.get(id);
    const known = image !== undefined;
    const words = known ? className(images.label[image] < 0 ? images.target[image] : images.label[image]) : id;
    const frame = element("button", {
      type: "button", title: id, "aria-label": `${id}, activation ${number(value)}`, disabled: !known, "data-key": `evidence ${row}`,
      onclick: () => go({ a: { ...state.a, class: images.member[image], image } }),
    }, thumbnail(id, { box, large: true }));
    return element("figure", {}, frame, element("figcaption", {}, `${number(value)} · ${words}`));
  }

  // ---------------------------------------------------------------- two views compared

  function drawComparison() {
    const place = byId("comparison");
    place.hidden = !state.b;
    byId("panels").classList.toggle("two", Boolean(state.b));
    if (!state.b) return;
    const { a, b, filter } = state;
    const one = usageOf(a, filter), other = usageOf(b, filter);
    const rows = one.map((counts, block) => [block, [...counts][0], [...other[block]][0], counts.size, other[block].size]).filter((row) => row[1] && row[2]);
    const same = rows.filter(([, left, right]) => left[0] === right[0]);
    const sentences = [
      `A is ${sayView(a, filter)} by ${methods[a.method].name}, B is ${sayView(b, filter)} by ${methods[b.method].name}.`,
      `The most frequent ${unit} is the same in ${same.length} of ${L} blocks; cosine similarity of usage ${number(cosine(one, other), 2)}.`,
      sayOverlap(a, b, filter),
    ].filter(Boolean);
    const sizes = [imagesOf(a, filter).length, imagesOf(b, filter).length];
    const pick = (side, block, [neuron, count], size) => {
      const choose = link(String(neuron), `comparison ${side} ${block}`, () => go({ neuron: { block, neuron } }, { small: true }));
      return element("span", {}, choose, ` ${percent(count / size)}`);
    };
    const lines = rows.map(([block, left, right]) => [String(block), pick("a", block, left, sizes[0]), pick("b", block, right, sizes[1]), left[0] === right[0] ? "same" : ""]);
    const open = place.querySelector("details")?.open ?? false;
    place.replaceChildren(
      element("h3", {}, "A and B"),
      ...sentences.map((text) => element("p", {}, text)),
      element("div", { className: "buttons" }, element("button", { type: "button", id: "comparison-csv", onclick: () => save("comparison.csv", comparisonCsv(one, other, sizes)) }, "Data (CSV)")),
      element("details", { open }, element("summary", { "data-key": "comparison" }, "Block by block"), table(["Block", "A", "B", ""], lines)),
    );
  }

  function sayOverlap(a, b, filter) {
    const one = imagesOf(a, filter), other = imagesOf(b, filter);
    const [first, second] = [methods[a.method], methods[b.method]];
    if (a.method !== b.method && one.length && one.length === other.length && one.every((image, place) => image === other[place])) {
      const mean = one.reduce((sum, i) => sum + overlap(i, first, i, second), 0) / one.length;
      return `The two methods' paths of the same image have ${percent(mean)} in common${one.length > 1 ? ", on average" : ""}.`;
    }
    const pairs = one.flatMap((i) => other.filter((j) => i !== j || a.method !== b.method).map((j) => [i, j]));
    if (!pairs.length || pairs.length > 40_000) return "";
    const mean = pairs.reduce((sum, [i, j]) => sum + overlap(i, first, j, second), 0) / pairs.length;
    return `A path of A and a path of B have ${percent(mean)} in common${pairs.length > 1 ? `, on average over ${plural(pairs.length, "pair")}` : ""}.`;
  }

  function comparisonCsv(one, other, sizes) {
    const rows = one.flatMap((counts, block) =>
      [...new Set([...counts.keys(), ...other[block].keys()])].sort((left, right) => left - right).map((neuron) => {
        const [left, right] = [counts.get(neuron) ?? 0, other[block].get(neuron) ?? 0];
        return [block, neuron, left, right, left / sizes[0], right / sizes[1]];
      }),
    );
    return toCsv(["block", "neuron", "images_a", "images_b", "share_a", "share_b"], rows);
  }

  // ---------------------------------------------------------------- classes by similarity

  function drawSimilarity() {
    const place = byId("similarity");
    if (classes.length < 2) return;
    if (!place.firstChild) {
      const choose = element("select", { id: "similarity-method", onchange: () => drawSimilarity() });
      options(choose, methods.map((method, index) => [String(index), method.name]), "0");
      place.append(
        element("h3", {}, "How alike classes are"),
        element("div", { className: "controls" }, element("label", {}, "Method", choose)),
        element("p", { className: "note", id: "similarity-note" }),
        element("div", { className: "columns" }, element("div", { className: "plot map", id: "similarity-map" }), element("div", { id: "similarity-pairs" })),
        element("div", { className: "buttons" }, element("button", { type: "button", id: "similarity-csv", onclick: saveSimilarity }, "Data (CSV)")),
      );
      place.hidden = false;
    }
    const method = methods[Number(byId("similarity-method").value)];
    const wanted = [method.name, state.filter, colour("paper"), byId("similarity-map").clientWidth].join();
    if (place.dataset.drawn === wanted) return;
    place.dataset.drawn = wanted;
    const rows = similaritiesNow(method);
    byId("similarity-note").textContent =
      `Cosine similarity of the classes' usage of ${unit}s, ${state.filter === "all" ? "over all images here" : `over images with ${state.filter} predictions`}; classes in the order of their tree. Choose a cell or a pair to compare the two.`;
    drawMap(rows);
    drawPairs(rows, methods.indexOf(method));
  }

  const similaritiesNow = (method) => once(`similarities ${methods.indexOf(method)} ${state.filter}`, () => similarities(method, state.filter));
  const order = data.order ?? classes.map((_, place) => place);
  const compareClasses = (one, other, method) => {
    go({ a: { class: one, image: null, method }, b: { class: other, image: null, method } });
    byId("explorer").scrollIntoView();
  };

  function drawMap(rows) {
    const map = byId("similarity-map");
    const names = order.map((place) => plain(short(titleOf(place), 18)));
    const few = classes.length <= 40;
    const side = Math.min(map.clientWidth || 500, 620);
    const z = order.map((one) => order.map((other) => (one === other ? null : rows[one][other])));
    const text = order.map((one) => order.map((other) => `${plain(titleOf(one))}<br>${plain(titleOf(other))}<br><b>${number(rows[one][other], 2)}</b>`));
    const ticks = { tickvals: few ? order.map((_, place) => place) : [], ticktext: few ? names : [], showgrid: false };
    const trace = {
      type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", hoverongaps: false, colorscale: [[0, colour("wash")], [1, colour("b")]],
      colorbar: { thickness: 10, outlinewidth: 0, len: 0.9, tickfont: { size: 11 } }, xgap: few ? 1 : 0, ygap: few ? 1 : 0,
    };
    const layout = layoutOf({
      height: side, margin: { l: 60, r: 10, t: 10, b: 60 }, paper_bgcolor: colour("paper"), plot_bgcolor: colour("paper"), dragmode: false,
      xaxis: { ...ticks, tickangle: few && classes.length > 12 ? -60 : "auto", fixedrange: true }, yaxis: { ...ticks, autorange: "reversed", fixedrange: true },
    });
    const fresh = !map.data;
    Plotly.react(map, [trace], layout, CONFIG);
    if (fresh) {
      map.on("plotly_click", ({ points: [point] }) => compareClasses(order[point.y], order[point.x], Number(byId("similarity-method").value)));
    }
  }

  function drawPairs(rows, method) {
    const pairs = [];
    for (let i = 0; i < classes.length; i++) for (let j = 0; j < i; j++) if (Number.isFinite(rows[i][j])) pairs.push([j, i, rows[i][j]]);
    pairs.sort((one, other) => other[2] - one[2]);
    const list = (title, some) =>
      element("div", {}, element("h4", {}, title), element("ul", { className: "pairs" }, ...some.map(([one, other, value]) =>
        element("li", {}, link(`${short(titleOf(one))} and ${short(titleOf(other))}`, `pair ${one} ${other}`, () => compareClasses(one, other, method)), `: ${number(value, 2)}`))));
    byId("similarity-pairs").replaceChildren(list("Most alike", pairs.slice(0, 6)), list("Least alike", pairs.slice(-6).reverse()));
  }

  function saveSimilarity() {
    const method = methods[Number(byId("similarity-method").value)];
    const rows = similaritiesNow(method);
    const cells = order.map((one) => [classes[one], className(classes[one]), ...order.map((other) => rows[one][other])]);
    save(`${fileName("similarity", method.scorer)}.csv`, toCsv(["class", "class_name", ...order.map((place) => classes[place])], cells));
  }

  // ---------------------------------------------------------------- the page

  function drawToolbar() {
    byId("toolbar").hidden = false;
    byId("compare").checked = Boolean(state.b);
    if (edges) byId("edges").checked = state.edges;
    byId("link").href = addressOf({ ...state, neuron: state.neuron ?? shownNeuron() });
    for (const radio of document.getElementsByName("filter")) radio.checked = radio.value === state.filter;
  }

  function makeToolbar() {
    const counts = { all: n, correct: 0, wrong: 0 };
    images.outcome.forEach((outcome) => {
      if (outcome < 2) counts[outcome ? "correct" : "wrong"] += 1;
    });
    const filter = byId("filter");
    filter.hidden = counts.correct + counts.wrong === 0;
    for (const name of FILTERS) {
      const radio = element("input", { type: "radio", name: "filter", value: name, onchange: () => go({ filter: name, a: { ...state.a, image: null }, b: state.b && { ...state.b, image: null } }) });
      filter.append(element("label", {}, radio, `${name === "all" ? "all" : `${name} prediction`} (${counts[name].toLocaleString("en")})`));
    }
    byId("compare").addEventListener("change", (event) => {
      const { a } = state;
      const other = methods.length > 1 ? { ...a, method: (a.method + 1) % methods.length } : { ...a, class: (a.class + 1) % classes.length, image: null };
      go({ b: event.target.checked ? other : null });
    });
    byId("edges")?.addEventListener("change", (event) => go({ edges: event.target.checked }));
  }

  function draw() {
    const key = document.activeElement?.dataset.key;
    drawToolbar();
    drawComparison();
    drawPanel("a");
    drawPanel("b");
    drawNeuron();
    if (byId("similarity").firstChild) drawSimilarity();
    if (key) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }

  function start() {
    makeToolbar();
    makePanel("a");
    makePanel("b");
    for (const button of document.querySelectorAll("[data-table]")) {
      button.addEventListener("click", () => save(`${button.dataset.table}.csv`, data.tables[button.dataset.table]));
    }
    for (const button of document.querySelectorAll("[data-large]")) {
      const toggle = () => button.setAttribute("aria-pressed", String(button.closest("figure").classList.toggle("large")));
      button.addEventListener("click", toggle);
    }
    for (const button of document.querySelectorAll("[data-picture]")) {
      const source = button.closest("figure").querySelector("img").src;
      button.addEventListener("click", () => element("a", { href: source, download: `${button.dataset.picture}.png` }).click());
    }
    if (follow()) byId("explorer").scrollIntoView();
    addEventListener("hashchange", () => location.hash === addressOf(state) || follow());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      drawSimilarity();
    }, { rootMargin: "300px" }).observe(byId("classes"));
  }

  start();
})();
