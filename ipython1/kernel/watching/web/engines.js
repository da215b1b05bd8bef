// The engines: a grid of cells, and a table that has only those rows in the document that can be seen.

import {bytes, count, duration} from "./format.js";
import {colours, fit} from "./canvas.js";
import {hideTip, showTip} from "./tip.js";

const ROW = 28;

export function stateOf(engine) {
  return engine.away ? "away" : engine.doing === "idle" ? "idle" : "busy";
}

export function runs(engine) {
  if (engine.away) return "";
  return engine.doing === "idle" ? "" : engine.what || engine.doing;
}

const COLUMNS = [
  {name: "id", title: "Id", by: (e) => e.id},
  {name: "state", title: "State", by: (e) => ["busy", "away", "idle"].indexOf(stateOf(e))},
  {name: "runs", title: "Runs", by: (e) => runs(e) || "\uffff"},
  {name: "for", title: "For", right: true, by: (e) => (e.since === null ? Infinity : e.since)},
  {name: "cpu", title: "CPU", right: true, down: true, by: (e) => e.cpu ?? -1},
  {name: "memory", title: "Memory", right: true, down: true, by: (e) => e.memory ?? -1},
  {name: "queue", title: "Queue", right: true, down: true, by: (e) => e.queued},
  {name: "tasks", title: "Tasks", right: true, down: true, by: (e) => e.tasks},
  {name: "host", title: "Host", by: (e) => e.host},
  {name: "pid", title: "Process", right: true, by: (e) => e.pid},
];

export class Engines {
  constructor(store) {
    this.store = store;
    this.sort = COLUMNS[0];
    this.down = false;
    this.list = [];
    this.chosen = null;
    this.onfilter = [];
    this.filter = document.getElementById("filter");
    this.scroll = document.getElementById("table-scroll");
    this.body = document.getElementById("rows");
    this.table = document.getElementById("table");
    this.grid = document.getElementById("grid");
    this.makeHead();
    this.pool = [];
    this.above = this.spacer();
    this.below = this.spacer();
    this.filter.addEventListener("input", () => { this.order(); this.render(); });
    this.scroll.addEventListener("scroll", () => this.render(), {passive: true});
    this.grid.addEventListener("pointermove", (event) => this.point(event));
    this.grid.addEventListener("pointerleave", hideTip);
    this.grid.addEventListener("click", (event) => {
      const engine = this.cellAt(event);
      if (engine) this.choose(engine.id);
    });
    new ResizeObserver(() => { this.drawGrid(); this.render(); }).observe(document.getElementById("engines"));
  }

  makeHead() {
    const head = document.getElementById("columns");
    for (const column of COLUMNS) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = `h-${column.name}`;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      if (column.right) button.className = "r";
      button.addEventListener("click", () => this.sortBy(column));
      cell.append(button);
      head.append(cell);
      column.cell = cell;
    }
    this.markSort();
  }

  spacer() {
    const row = document.createElement("tr");
    row.className = "spacer";
    row.setAttribute("aria-hidden", "true");
    const cell = document.createElement("td");
    cell.colSpan = COLUMNS.length;
    row.append(cell);
    this.body.append(row);
    return cell;
  }

  sortBy(column) {
    this.down = column === this.sort ? !this.down : Boolean(column.down);
    this.sort = column;
    this.markSort();
    this.order();
    this.render();
  }

  markSort() {
    for (const each of COLUMNS) {
      if (each === this.sort) each.cell.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else each.cell.removeAttribute("aria-sort");
    }
  }

  matches(engine, words) {
    const text = `${engine.id} ${engine.host} ${engine.pid} ${stateOf(engine)} ${runs(engine)}`.toLowerCase();
    return words.every((word) => (/^\d+$/.test(word) ? [engine.id, engine.pid].includes(Number(word)) : text.includes(word)));
  }

  // Choose and sort what is shown.
  order() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...this.store.engines.values()];
    const found = words.length ? all.filter((each) => this.matches(each, words)) : all;
    const {by} = this.sort, sign = this.down ? -1 : 1;
    found.sort((a, b) => {
      const x = by(a), y = by(b);
      return x < y ? -sign : x > y ? sign : a.id - b.id;
    });
    this.list = found;
    const ids = found.map((each) => each.id).sort((a, b) => a - b);
    const key = ids.join();
    if (key !== this.ids) {
      this.ids = key;
      for (const each of this.onfilter) each(ids);
    }
    const total = all.length;
    document.getElementById("engine-count").textContent =
      words.length ? `${count(found.length)} of ${count(total)}` : count(total);
    this.table.setAttribute("aria-rowcount", found.length + 1);
  }

  render() {
    const height = this.scroll.clientHeight || 420;
    const most = Math.ceil(height / ROW) + 4;
    const last = Math.max(0, this.list.length - most);
    const start = Math.min(last, Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - 2));
    const shown = this.list.slice(start, start + most);
    while (this.pool.length < shown.length) this.pool.push(this.makeRow());
    while (this.pool.length > shown.length) this.pool.pop().row.remove();
    this.above.style.height = `${start * ROW}px`;
    this.above.parentNode.hidden = start === 0;
    const rest = this.list.length - start - shown.length;
    this.below.style.height = `${rest * ROW}px`;
    this.below.parentNode.hidden = rest === 0;
    const now = this.store.now();
    shown.forEach((engine, i) => this.fillRow(this.pool[i], engine, start + i, now));
  }

  makeRow() {
    const row = document.createElement("tr");
    const cells = {};
    for (const column of COLUMNS) {
      const cell = document.createElement("td");
      cell.className = `h-${column.name}${column.right ? " r" : ""}`;
      row.append(cell);
      cells[column.name] = cell;
    }
    cells.runs.classList.add("mono");
    const dot = document.createElement("i");
    const word = document.createTextNode("");
    cells.state.append(dot, word);
    const meter = document.createElement("span");
    meter.className = "meter";
    const level = document.createElement("i");
    meter.append(level);
    const percent = document.createTextNode("");
    cells.cpu.append(meter, percent);
    row.addEventListener("click", () => this.choose(Number(row.dataset.id), false));
    this.body.insertBefore(row, this.below.parentNode);
    return {row, cells, dot, word, level, meter, percent};
  }

  fillRow(made, engine, index, now) {
    const {row, cells} = made;
    const state = stateOf(engine);
    row.setAttribute("aria-rowindex", index + 2);
    row.dataset.id = engine.id;
    row.classList.toggle("chosen", engine.id === this.chosen);
    setText(cells.id, String(engine.id));
    setClass(made.dot, `dot ${state}`);
    if (made.word.data !== state) made.word.data = state;
    const what = runs(engine);
    setText(cells.runs, what);
    cells.runs.title = what;
    setText(cells.for, engine.since === null || state !== "busy" ? "" : duration(Math.max(0, now - engine.since)));
    made.meter.hidden = engine.cpu === null;
    made.level.style.width = `${Math.min(100, engine.cpu || 0)}%`;
    const percent = engine.cpu === null ? "–" : `${Math.round(engine.cpu)} %`;
    if (made.percent.data !== percent) made.percent.data = percent;
    setText(cells.memory, engine.memory === null ? "–" : bytes(engine.memory));
    setText(cells.queue, engine.queued ? count(engine.queued) : "");
    setText(cells.tasks, engine.tasks ? count(engine.tasks) : "");
    setText(cells.host, engine.host);
    cells.host.title = engine.host;
    setText(cells.pid, String(engine.pid));
  }

  choose(id, reveal = true) {
    this.chosen = this.chosen === id && !reveal ? null : id;
    const at = this.list.findIndex((each) => each.id === id);
    if (reveal && at >= 0) this.scroll.scrollTop = Math.max(0, at * ROW - this.scroll.clientHeight / 2 + 2 * ROW);
    this.render();
    this.drawGrid();
  }

  // -- the grid

  layout() {
    const all = [...this.store.engines.values()].sort((a, b) => a.id - b.id);
    const width = this.grid.parentNode.clientWidth - 28;
    let size = all.length <= 64 ? 30 : all.length <= 256 ? 20 : 12;
    const gap = size >= 20 ? 4 : 2;
    const columns = Math.max(1, Math.floor((width + gap) / (size + gap)));
    const lines = Math.ceil(all.length / columns);
    return {all, width, size, gap, columns, height: Math.max(0, lines * (size + gap) - gap)};
  }

  drawGrid() {
    const place = this.place = this.layout();
    const {all, width, size, gap, columns, height} = place;
    this.grid.hidden = all.length === 0;
    if (!all.length) return;
    const context = fit(this.grid, width, height);
    this.grid.style.width = `${width}px`;
    const colour = colours();
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    all.forEach((engine, i) => {
      const x = (i % columns) * (size + gap), y = Math.floor(i / columns) * (size + gap);
      const state = stateOf(engine);
      const strength = state === "busy" ? 0.45 + 0.55 * Math.min(1, (engine.cpu ?? 100) / 100) : 1;
      context.globalAlpha = strength;
      context.fillStyle = state === "busy" ? colour.accent : state === "away" ? colour.warn : colour.idle;
      context.beginPath();
      context.roundRect(x, y, size, size, size >= 20 ? 5 : 2);
      context.fill();
      context.globalAlpha = 1;
      if (engine.id === this.chosen) {
        context.strokeStyle = colour.text;
        context.lineWidth = 2;
        context.stroke();
      }
      if (size >= 20) {
        context.fillStyle = state === "idle" ? colour.muted : strength < 0.75 ? colour.text : colour.card;
        context.fillText(String(engine.id), x + size / 2, y + size / 2 + 0.5);
      }
    });
  }

  cellAt(event) {
    if (!this.place) return null;
    const {all, size, gap, columns} = this.place;
    const box = this.grid.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / (size + gap));
    const line = Math.floor((event.clientY - box.top) / (size + gap));
    return column >= 0 && column < columns ? all[line * columns + column] || null : null;
  }

  point(event) {
    const engine = this.cellAt(event);
    if (!engine) { hideTip(); return; }
    const parts = [`engine ${engine.id} on ${engine.host}`];
    const what = runs(engine);
    if (what) {
      const time = engine.since === null ? "" : ` for ${duration(Math.max(0, this.store.now() - engine.since))}`;
      parts.push(`${what}${time}`);
    } else parts.push(stateOf(engine));
    if (engine.cpu !== null) parts.push(`CPU ${Math.round(engine.cpu)} %, ${engine.memory === null ? "" : bytes(engine.memory)}`);
    showTip(parts.join("\n"), event.clientX, event.clientY);
  }
}

function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

function setClass(node, name) { if (node.className !== name) node.className = name; }
