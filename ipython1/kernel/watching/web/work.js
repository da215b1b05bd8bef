// Progress: one row for each map, or for all calls of a function.

import {count, duration} from "./format.js";

const MOST = 60;

export class Work {
  constructor(store) {
    this.store = store;
    this.box = document.getElementById("work");
    this.rows = new Map();
  }

  render() {
    const all = [...this.store.work.values()];
    const rank = (work) => (work.completed === null ? 0 : 1);
    all.sort((a, b) => rank(a) - rank(b) || b.submitted - a.submitted || b.key - a.key);
    const going = all.filter((each) => each.completed === null).length;
    document.getElementById("work-count").textContent = all.length ? `${count(going)} going on, ${count(all.length - going)} done` : "";
    const shown = all.slice(0, MOST);
    if (!shown.length) {
      this.rows.clear();
      if (!this.box.querySelector(".empty")) this.box.replaceChildren(empty("No tasks were submitted yet. Maps and calls of functions appear here."));
      return;
    }
    const keys = new Set(shown.map((each) => each.key));
    for (const [key, made] of this.rows) {
      if (!keys.has(key)) { made.row.remove(); this.rows.delete(key); }
    }
    this.box.querySelector(".empty")?.remove();
    shown.forEach((work, i) => {
      let made = this.rows.get(work.key);
      if (!made) this.rows.set(work.key, made = makeRow());
      if (this.box.children[i] !== made.row) this.box.insertBefore(made.row, this.box.children[i] || null);
      this.fill(made, work);
    });
  }

  fill(made, work) {
    const done = work.succeeded + work.failed;
    const part = (number) => `${(100 * number / Math.max(1, work.total)).toFixed(2)}%`;
    const over = work.completed !== null;
    made.row.className = over ? "job done" : "job";
    set(made.what, work.what);
    made.what.parentNode.title = `${work.what}, ${work.label || "unknown client"}`;
    set(made.who, work.label.split("@")[0]);
    made.ok.style.width = part(work.succeeded);
    made.no.style.width = work.failed ? `max(2px, ${part(work.failed)})` : "0";
    made.run.style.width = over ? "0" : part(work.running);
    made.bar.setAttribute("aria-valuenow", done);
    made.bar.setAttribute("aria-valuemax", work.total);
    made.bar.setAttribute("aria-valuetext", `${done} of ${work.total} ${work.unit} that were submitted so far, ${work.failed} failed`);
    set(made.number, count(done));
    // A map sends its items as results come, so there may be more than were submitted so far.
    set(made.total, over ? ` ${work.unit}` : ` / ${count(work.total)}+`);
    made.total.parentNode.title = over ? "" : `${work.unit} done, and submitted so far`;
    set(made.failed, work.failed ? `${count(work.failed)} failed` : "");
    set(made.each, work.seconds === null ? "" : `${duration(work.seconds)} each`);
    set(made.left, over ? `took ${duration(work.completed - work.submitted)}` : this.left(work, done));
  }

  left(work, done) {
    if (work.seconds === null || !work.running) return work.running ? "" : "waits";
    return `${duration((work.total - done) * work.seconds / work.running)} or more`;
  }
}

function makeRow() {
  const row = document.createElement("div");
  const cell = (name) => { const made = document.createElement("div"); made.className = name; row.append(made); return made; };
  const inside = (parent, tag, name = "") => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    parent.append(made);
    return made;
  };
  const what = cell("what"), barcell = cell("barcell");
  const bar = inside(barcell, "div", "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  const number = cell("num");
  return {row, what: inside(what, "b"), who: inside(what, "span"), bar, ok: inside(bar, "i", "ok"), no: inside(bar, "i", "no"),
    run: inside(bar, "i", "run"), number: inside(number, "b"), total: inside(number, "span"),
    failed: cell("num failed bad-text"), each: cell("num each"), left: cell("num left")};
}

export function empty(text) {
  const made = document.createElement("p");
  made.className = "empty";
  made.textContent = text;
  return made;
}

function set(node, text) { if (node.textContent !== text) node.textContent = text; }
