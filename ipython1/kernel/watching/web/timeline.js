// What each engine did, on a canvas: one lane for each engine, time from left to right.

import {clock, count, duration, plural} from "./format.js";
import {colourOf, colours, fit} from "./canvas.js";
import {runs, stateOf} from "./engines.js";
import {hideTip, showTip} from "./tip.js";
import {KEPT} from "./store.js";

const AXIS = 22, LEAST = 0.5, FIRST = 60, MOST_HEIGHT = 430;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120];

export class Timeline {
  constructor(store) {
    this.store = store;
    this.ids = [];
    this.width = FIRST;   // seconds that are shown
    this.end = null;      // the time at the right end; null: now
    this.seen = true;
    this.pointers = new Map();
    this.canvas = document.getElementById("timeline-canvas");
    this.lanes = document.getElementById("lanes");
    this.size = document.getElementById("lanes-size");
    const button = (id, act) => document.getElementById(id).addEventListener("click", act);
    button("zoom-in", () => this.zoom(0.5));
    button("zoom-out", () => this.zoom(2));
    button("earlier", () => this.move(-this.width / 3));
    button("later", () => this.move(this.width / 3));
    button("live", () => this.follow());
    this.listen();
    new IntersectionObserver((entries) => { this.seen = entries[entries.length - 1].isIntersecting; this.stale = true; })
      .observe(this.lanes);
    new ResizeObserver(() => this.resize()).observe(document.getElementById("timeline"));
  }

  // The engines that have lanes, by id.
  show(ids) {
    this.ids = ids;
    this.resize();
  }

  resize() {
    const n = Math.max(1, this.ids.length);
    this.lane = n <= 12 ? 22 : n <= 24 ? 16 : n <= 64 ? 8 : n <= 160 ? 4 : 3;
    this.whole = AXIS + n * this.lane + 4;
    this.high = Math.min(this.whole, MOST_HEIGHT);
    this.size.style.height = `${this.whole - this.high}px`;
    this.wide = this.lanes.clientWidth;
    this.gutter = Math.max(30, 12 + 7 * String(this.ids[this.ids.length - 1] ?? 0).length);
    this.stale = true;
    this.draw();
  }

  get right() { return this.end === null ? this.store.now() : this.end; }

  // -- moving

  zoom(factor, at = null) {
    const width = Math.min(KEPT, Math.max(LEAST, this.width * factor));
    if (at !== null && this.end !== null) this.end = this.bounded(at + (this.end - at) * width / this.width, width);
    this.width = width;
    this.stale = true;
    this.say();
  }

  move(seconds) {
    const end = this.right + seconds;
    if (seconds > 0 && end >= this.store.now() - 0.02 * this.width) { this.follow(); return; }
    this.end = this.bounded(end, this.width);
    this.stale = true;
    this.say();
  }

  bounded(end, width) {
    const now = this.store.now();
    return Math.max(now - KEPT + width * 0.5, Math.min(now, end));
  }

  follow() { this.end = null; this.stale = true; this.say(); }

  say() {
    document.getElementById("live").setAttribute("aria-pressed", String(this.end === null));
    const range = this.end === null ? `last ${duration(this.width)}` : `${duration(this.width)} until ${clock(this.end)}`;
    document.getElementById("timeline-range").textContent = range;
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
        this.move((event.deltaX || event.deltaY) * this.width / this.wide);
      } else this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.005), this.timeAt(event));
    }, {passive: false});
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      canvas.classList.add("drag");
      hideTip();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.pointers.size) { this.point(event); return; }
      if (this.pointers.has(event.pointerId)) this.drag(event);
    });
    const up = (event) => {
      this.pointers.delete(event.pointerId);
      if (!this.pointers.size) canvas.classList.remove("drag");
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("dblclick", () => { this.width = FIRST; this.follow(); });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.lanes.addEventListener("scroll", () => { this.stale = true; hideTip(); }, {passive: true});
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    const others = [...this.pointers.values()].filter((each) => each.pointerId !== event.pointerId);
    if (others.length) {
      const apart = (a) => Math.max(20, Math.abs(a.clientX - others[0].clientX));
      this.zoom(apart(before) / apart(event), this.timeAt(event));
    } else {
      const moved = event.clientX - before.clientX;
      if (moved) this.move(-moved * this.width / (this.wide - this.gutter));
      if (event.pointerType === "mouse") this.lanes.scrollTop -= event.clientY - before.clientY;
    }
    this.pointers.set(event.pointerId, event);
  }

  key(event) {
    const acts = {"+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
      ArrowLeft: () => this.move(-this.width / 6), ArrowRight: () => this.move(this.width / 6), Home: () => this.follow(),
      ArrowUp: () => { this.lanes.scrollTop -= 60; }, ArrowDown: () => { this.lanes.scrollTop += 60; }};
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // -- finding

  timeAt(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.right - this.width * (1 - (event.clientX - box.left - this.gutter) / (this.wide - this.gutter));
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const y = event.clientY - box.top - AXIS + this.lanes.scrollTop;
    const id = event.clientY - box.top < AXIS ? undefined : this.ids[Math.floor(y / this.lane)];
    if (id === undefined || event.clientX - box.left < this.gutter) { hideTip(); return; }
    const time = this.timeAt(event), slack = 2 * this.width / this.wide;
    const found = this.spanAt(id, time, slack);
    showTip(found ? this.describe(found) : `engine ${id}: ${clock(time)}`, event.clientX, event.clientY);
  }

  spanAt(id, time, slack) {
    const running = this.running(id);
    if (running && time >= running.begun - slack && time <= running.ended + slack) return running;
    const lane = this.store.spans.get(id) || [];
    for (let i = lane.length - 1; i >= 0; i -= 1) {
      if (time >= lane[i].begun - slack && time <= lane[i].ended + slack) return lane[i];
    }
    return null;
  }

  running(id) {
    const engine = this.store.engines.get(id);
    if (!engine || engine.since === null || stateOf(engine) !== "busy") return null;
    return {engine: id, kind: engine.doing === "task" ? "task" : "command", what: runs(engine), begun: engine.since,
      ended: this.store.now(), count: 1, failed: 0, running: true};
  }

  describe(span) {
    const lines = [span.what || span.kind];
    const number = span.id === undefined ? "" : ` ${span.id}`;
    if (span.count > 1) lines.push(`${plural(span.count, "task")} from ${number.trim()}, on engine ${span.engine}`);
    else lines.push(`${span.kind}${number} on engine ${span.engine}`);
    lines.push(`${span.running ? "running for" : "took"} ${duration(span.ended - span.begun)}, from ${clock(span.begun)}`);
    if (span.count > 1) lines.push(`${duration((span.ended - span.begun) / span.count)} each`);
    if (span.failed) lines.push(span.count > 1 ? `${count(span.failed)} failed` : "failed");
    return lines.join("\n");
  }

  // -- drawing

  draw() {
    this.stale = false;
    if (!this.seen || !this.wide || !this.store.ready) return;
    const context = fit(this.canvas, this.wide, this.high);
    const colour = colours(), right = this.right, left = right - this.width;
    const scale = (this.wide - this.gutter) / this.width;
    const x = (time) => this.gutter + (time - left) * scale;
    const top = this.lanes.scrollTop;
    const first = Math.max(0, Math.floor(top / this.lane));
    const last = Math.min(this.ids.length - 1, Math.ceil((top + this.high - AXIS) / this.lane));
    const gap = this.lane >= 8 ? 3 : this.lane >= 4 ? 1 : 0.5;
    this.drawGrid(context, colour, x, left, right, first, last, top);
    context.save();
    context.beginPath();
    context.rect(this.gutter, AXIS, this.wide - this.gutter, this.high - AXIS);
    context.clip();
    for (let i = first; i <= last; i += 1) {
      const y = AXIS + i * this.lane - top + gap / 2, height = this.lane - gap;
      for (const span of this.store.spans.get(this.ids[i]) || []) {
        if (span.ended >= left && span.begun <= right) this.drawSpan(context, colour, span, x, y, height);
      }
      const running = this.running(this.ids[i]);
      if (running && running.begun <= right) this.drawSpan(context, colour, running, x, y, height);
    }
    context.restore();
  }

  drawSpan(context, colour, span, x, y, height) {
    const from = Math.max(this.gutter - 4, x(span.begun)), to = Math.min(this.wide + 4, x(span.ended));
    const width = Math.max(span.failed ? 2 : 1, to - from - (to - from > 4 ? 1 : 0));
    context.globalAlpha = span.running ? 0.5 : 1;
    context.fillStyle = span.failed && span.failed === span.count ? colour.bad : colourOf(span.kind, span.what);
    if (height >= 8 && width >= 6) {
      context.beginPath();
      context.roundRect(from, y, width, height, 3);
      context.fill();
    } else context.fillRect(from, y, width, height);
    context.globalAlpha = 1;
    if (span.failed && span.failed < span.count) {
      context.fillStyle = colour.bad;
      context.fillRect(from, y + height - Math.max(1, height / 5), width, Math.max(1, height / 5));
    }
    if (height >= 12 && width > 46) this.label(context, colour, span, from, width, y, height);
  }

  label(context, colour, span, from, width, y, height) {
    const text = span.count > 1 ? `${span.what} ×${span.count}` : span.what;
    context.font = "11px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = span.running ? colour.text : colour.card;
    const most = Math.floor((width - 12) / 6.7);
    context.fillText(text.length > most ? `${text.slice(0, most - 1)}…` : text, from + 6, y + height / 2 + 0.5);
  }

  drawGrid(context, colour, x, left, right, first, last, top) {
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    const wanted = this.width / Math.max(2, (this.wide - this.gutter) / 110);
    const step = STEPS.find((each) => each >= wanted) || 120;
    for (let time = Math.ceil(left / step) * step; time <= right; time += step) {
      const at = Math.round(x(time)) + 0.5;
      context.fillStyle = colour.soft;
      context.fillRect(at - 0.5, AXIS - 4, 1, this.high);
      context.fillStyle = colour.muted;
      const part = step < 1 ? (time % 1).toFixed(1).slice(1) : "";
      if (at > this.gutter + 26 && at < this.wide - 28) context.fillText(clock(time + 1e-6) + part, at, AXIS / 2);
    }
    context.save();
    context.beginPath();
    context.rect(0, AXIS - 5, this.wide, this.high - AXIS + 5);
    context.clip();
    context.textAlign = "right";
    const every = Math.ceil(13 / this.lane);
    for (let i = first; i <= last; i += 1) {
      const y = AXIS + i * this.lane - top;
      if (this.lane >= 8) {
        context.fillStyle = colour.soft;
        context.fillRect(this.gutter, Math.round(y + this.lane) - 1, this.wide, 1);
      }
      if (i % every) continue;
      context.fillStyle = colour.muted;
      context.fillText(String(this.ids[i]), this.gutter - 8, y + Math.min(this.lane, 16) / 2 + (this.lane > 16 ? 3 : 0.5));
    }
    context.restore();
  }

  // What the colours mean: the functions that were run most, of those that can be seen.
  legend() {
    const times = new Map();
    const left = this.right - this.width;
    let failed = false;
    for (const id of this.ids) {
      for (const span of this.store.spans.get(id) || []) {
        if (span.ended < left || span.begun > this.right) continue;
        const key = span.kind === "command" ? "commands" : span.what;
        times.set(key, (times.get(key) || 0) + span.ended - span.begun);
        failed ||= span.failed > 0;
      }
    }
    const most = [...times].sort((a, b) => b[1] - a[1]).slice(0, 8);
    const text = most.map(([what]) => [what, what === "commands" ? colours().command : colourOf("task", what)]);
    if (failed) text.push(["failed", colours().bad]);
    const key = text.join();
    if (key === this.legendKey) return;
    this.legendKey = key;
    document.getElementById("legend").replaceChildren(...text.map(([what, colour]) => {
      const item = document.createElement("span"), box = document.createElement("i");
      box.style.background = colour;
      item.append(box, what);
      return item;
    }));
  }
}
