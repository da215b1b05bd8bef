// What is known of the cluster, and the stream of events that it comes from.
// The rows are lists; picture.py names the same fields in the same order.

const ENGINE = ["id", "pid", "host", "away", "doing", "queued", "what", "since", "tasks", "cpu", "memory"];
const WORK = ["key", "what", "label", "unit", "total", "running", "succeeded", "failed", "seconds", "submitted", "completed"];
const SPAN = ["engine", "kind", "id", "what", "begun", "ended", "count", "failed"];
const FAILURE = ["number", "kind", "id", "what", "engine", "error", "when"];

export const KEPT = 300;
const MOST_SPANS = 20000, MOST_FAILURES = 200, MOST_WORK = 200, MOST_POINTS = 300;

function named(fields, row) {
  const found = {};
  for (let i = 0; i < fields.length; i += 1) found[fields[i]] = row[i];
  return found;
}

export class Store {
  constructor() {
    this.listeners = [];
    this.away = null;
    this.lost = false;
    this.ready = false;
    this.clear();
  }

  clear() {
    this.engines = new Map();
    this.work = new Map();
    this.spans = new Map();
    this.failures = [];
    this.trend = [];
    this.tasks = [0, 0, 0, 0, 0];
    this.traffic = [0, 0, 0];
    this.pruned = 0;
  }

  // Call a function with the names of the parts that have changed.
  listen(listener) { this.listeners.push(listener); }

  tell(...parts) { for (const each of this.listeners) each(new Set(parts)); }

  // The controller's time, now; it stands still while the controller is out of reach.
  now() {
    if (!this.ready) return Date.now() / 1000;
    if (this.away || this.lost) return this.time;
    return this.time + Math.min((performance.now() - this.seen) / 1000, 3);
  }

  whole(news) {
    this.clear();
    this.ready = true;
    this.away = null;
    this.trend = news.trend || [];
    this.update(news);
    this.tell("all", "state", "engines", "membership", "work", "spans", "failures", "numbers");
  }

  update(news) {
    const parts = new Set(["numbers"]);
    Object.assign(this, {time: news.time, started: news.started, name: news.name, clients: news.clients,
      tasks: news.tasks, traffic: news.traffic, seen: performance.now()});
    for (const row of news.engines || []) {
      const engine = named(ENGINE, row);
      if (!this.engines.has(engine.id)) parts.add("membership");
      this.engines.set(engine.id, engine);
      parts.add("engines");
    }
    for (const id of news.gone || []) {
      this.engines.delete(id);
      parts.add("engines").add("membership");
    }
    for (const row of news.work || []) {
      const work = named(WORK, row);
      this.work.set(work.key, work);
      parts.add("work");
    }
    while (this.work.size > MOST_WORK) this.work.delete(Math.min(...this.work.keys()));
    for (const row of news.spans || []) this.addSpan(named(SPAN, row));
    if (news.spans) parts.add("spans");
    for (const row of news.failures || []) this.failures.push(named(FAILURE, row));
    if (news.failures) parts.add("failures");
    if (this.failures.length > MOST_FAILURES) this.failures.splice(0, this.failures.length - MOST_FAILURES);
    this.notePoint();
    this.prune();
    return parts;
  }

  addSpan(span) {
    let lane = this.spans.get(span.engine);
    if (!lane) this.spans.set(span.engine, lane = []);
    let at = lane.length;
    while (at > 0 && lane[at - 1].begun > span.begun) at -= 1;
    if (at > 0 && lane[at - 1].begun === span.begun) lane[at - 1] = span;
    else lane.splice(at, 0, span);
  }

  notePoint() {
    const last = this.trend[this.trend.length - 1];
    if (last && this.time - last[0] < 0.95 && this.time >= last[0]) return;
    let cpu = 0;
    for (const each of this.engines.values()) cpu += each.cpu || 0;
    this.trend.push([this.time, this.tasks[4], ...this.traffic, cpu]);
    if (this.trend.length > MOST_POINTS) this.trend.shift();
  }

  prune() {
    if (Math.abs(this.time - this.pruned) < 10) return;
    this.pruned = this.time;
    let oldest = this.time - KEPT, total = 0;
    for (const lane of this.spans.values()) total += lane.length;
    if (total > MOST_SPANS) {
      const ends = [...this.spans.values()].flatMap((lane) => lane.map((span) => span.ended)).sort((a, b) => a - b);
      oldest = Math.max(oldest, ends[total - MOST_SPANS]);
    }
    for (const [engine, lane] of this.spans) {
      let gone = 0;
      while (gone < lane.length && lane[gone].ended < oldest) gone += 1;
      if (gone) lane.splice(0, gone);
      if (!lane.length) this.spans.delete(engine);
    }
  }

  // -- the stream

  connect() {
    if (this.source) this.source.close();
    const source = this.source = new EventSource(document.hidden ? "events?hidden=1" : "events");
    source.addEventListener("whole", (event) => { this.lost = false; this.whole(JSON.parse(event.data)); });
    source.addEventListener("news", (event) => {
      const changed = this.update(JSON.parse(event.data));
      this.tell(...changed);
    });
    source.addEventListener("away", (event) => {
      this.lost = false;
      this.away = JSON.parse(event.data);
      this.tell("state");
    });
    source.onerror = () => {
      if (source !== this.source) return;
      this.lost = true;
      this.tell("state");
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (source === this.source) this.connect(); }, 5000);
    };
  }
}
