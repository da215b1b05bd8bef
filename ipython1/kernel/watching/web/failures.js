// What failed, the latest first; tracebacks are fetched when they are opened.

import {clock, count} from "./format.js";
import {empty} from "./work.js";

export class Failures {
  constructor(store) {
    this.store = store;
    this.box = document.getElementById("failures");
    this.rows = new Map();
  }

  render() {
    const {failures} = this.store;
    const counted = document.getElementById("failure-count");
    counted.textContent = failures.length ? `the latest ${count(failures.length)}` : "";
    if (!failures.length) {
      this.rows.clear();
      if (!this.box.querySelector(".empty")) this.box.replaceChildren(empty("Nothing has failed."));
      return;
    }
    this.box.querySelector(".empty")?.remove();
    const kept = new Set(failures.map((each) => each.number));
    for (const [number, row] of this.rows) {
      if (!kept.has(number)) { row.remove(); this.rows.delete(number); }
    }
    for (const failure of failures) {
      if (this.rows.has(failure.number)) continue;
      const row = this.make(failure);
      this.rows.set(failure.number, row);
      this.box.prepend(row);
    }
  }

  make(failure) {
    const row = document.createElement("details");
    row.className = "failure";
    const head = document.createElement("summary");
    const time = document.createElement("time");
    time.textContent = clock(failure.when);
    const where = document.createElement("span");
    where.className = "where";
    where.textContent = failure.engine === null ? "–" : `engine ${failure.engine}`;
    const error = document.createElement("span");
    error.className = "error";
    const [kind, ...rest] = (failure.error || `${failure.kind} ${failure.id} failed`).split(": ");
    const name = document.createElement("b");
    name.textContent = rest.length ? `${kind}:` : kind;
    const what = document.createElement("span");
    what.textContent = `in ${failure.what || failure.kind} (${failure.kind} ${failure.id})`;
    error.append(name, rest.length ? ` ${rest.join(": ")} ` : " ", what);
    error.title = failure.error;
    head.append(time, where, error);
    row.append(head);
    row.addEventListener("toggle", () => { if (row.open && !row.querySelector("pre")) this.open(row, failure); });
    return row;
  }

  async open(row, failure) {
    const text = document.createElement("pre");
    text.tabIndex = 0;
    text.textContent = "…";
    row.append(text);
    try {
      const answer = await fetch(`traceback?number=${failure.number}`);
      text.textContent = (await answer.text()).trim() || "The controller does not know the traceback.";
    } catch {
      text.remove();
      row.open = false;
    }
  }
}
