// The page: what is drawn when.

import {bytes, clock, count, duration, short} from "./format.js";
import {forgetColours} from "./canvas.js";
import {Engines, stateOf} from "./engines.js";
import {Failures} from "./failures.js";
import {Logs} from "./logs.js";
import {spark} from "./spark.js";
import {Store} from "./store.js";
import {Timeline} from "./timeline.js";
import {Work} from "./work.js";

const $ = (id) => document.getElementById(id);

function set(id, text) { const node = $(id); if (node.textContent !== text) node.textContent = text; }

// -- colours

const themes = ["auto", "light", "dark"];
const systemDark = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
try { theme = localStorage.getItem("ipython1-theme") || "auto"; } catch { /* it is not kept */ }

function useTheme() {
  const dark = theme === "dark" || (theme === "auto" && systemDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  set("theme", theme[0].toUpperCase() + theme.slice(1));
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
  forgetColours();
  dirty.add("all");
}

const dirty = new Set(["all"]);
$("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  try { localStorage.setItem("ipython1-theme", theme); } catch { /* it is not kept */ }
  useTheme();
});
systemDark.addEventListener("change", useTheme);
useTheme();

// -- parts

const store = new Store();
const engines = new Engines(store);
const timeline = new Timeline(store);
const work = new Work(store);
const failures = new Failures(store);
engines.onfilter.push((ids) => timeline.show(ids));
store.listen((parts) => { for (const each of parts) dirty.add(each); });

function showState() {
  const pill = $("link"), trouble = $("trouble");
  let text = "";
  if (store.lost) {
    text = store.ready ? "The monitor does not answer; it may have ended. This is what it showed last." : "The monitor does not answer; it may have ended.";
    pill.className = "pill bad";
    set("link", "no monitor");
  } else if (store.away) {
    text = `The controller is out of reach since ${clock(store.away.since)}: ${store.away.reason}`;
    pill.className = "pill bad";
    set("link", "out of reach");
  } else {
    pill.className = store.ready ? "pill good" : "pill";
    set("link", store.ready ? "live" : "connecting");
  }
  set("trouble", text);
  trouble.hidden = !text;
}

function showNumbers() {
  if (!store.ready) return;
  const states = {busy: 0, idle: 0, away: 0};
  let cpu = 0, memory = 0, queued = 0;
  for (const each of store.engines.values()) {
    states[stateOf(each)] += 1;
    cpu += each.cpu || 0;
    memory += each.memory || 0;
    queued += each.queued;
  }
  const total = store.engines.size;
  set("t-busy", count(states.busy));
  set("t-engines", `of ${count(total)} busy`);
  const [busy, away] = $("t-share").children;
  busy.style.width = `${100 * states.busy / Math.max(1, total)}%`;
  away.style.width = `${100 * states.away / Math.max(1, total)}%`;
  set("t-states", [`${count(states.idle)} idle`, ...(states.away ? [`${count(states.away)} away`] : [])].join(" · "));
  const [scheduled, pending, succeeded, failed, rate] = store.tasks;
  set("t-done", count(succeeded + failed));
  $("t-tasks").replaceChildren(...[["b", count(pending)], " running · ", ["b", count(scheduled)], " waiting"].map(part));
  const commands = `${count(queued)} queued ${queued === 1 ? "command" : "commands"}`;
  $("t-queue").replaceChildren(...(failed ? [["b", count(failed), "bad"], queued ? ` failed · ${commands}` : " failed"].map(part) : [commands]));
  set("t-rate", short(rate));
  set("t-cpu", cpu < 999.5 ? `${count(cpu)} %` : `${short(cpu / 100)} cores`);
  set("t-memory", memory ? bytes(memory) : "");
  const [received, sent, delay] = store.traffic;
  set("t-traffic", `${bytes(received + sent)}/s`);
  set("t-inout", `${bytes(received)} in`);
  set("t-delay", duration(delay));
  set("clients", count(store.clients));
  const name = store.name || "Default cluster";
  set("name", name);
  document.title = `${name}: ${states.busy} of ${total} busy`;
}

function part(each) {
  if (typeof each === "string") return each;
  const node = document.createElement(each[0]);
  node.textContent = each[1];
  if (each[2]) node.className = each[2];
  return node;
}

function showTrends() {
  const column = (i) => store.trend.map((point) => point[i]);
  spark($("s-rate"), column(1), null, 1);
  spark($("s-traffic"), column(2), column(3), 1000);
  spark($("s-delay"), column(4), null, 0.01);
  spark($("s-cpu"), column(5), null, 10);
}

function showTimes() {
  if (!store.ready) return;
  set("uptime", duration(store.now() - store.started));
  set("clock", clock(store.now()));
}

// -- drawing: at most once a frame, and what changes often not in each

const last = {table: 0, slow: 0, timeline: 0, grid: 0};

function frame(now) {
  requestAnimationFrame(frame);
  const all = dirty.has("all");
  if (all || dirty.has("state")) { showState(); dirty.delete("state"); }
  if (all || dirty.has("membership") || now - last.slow > 1000) {
    last.slow = now;
    engines.order();
    engines.render();
    timeline.legend();
    timeline.say();
    showTimes();
    if (store.ready) showTrends();
    dirty.delete("membership");
  }
  if (all || (dirty.has("numbers") && now - last.table > 240)) { showNumbers(); dirty.delete("numbers"); }
  if (all || (now - last.table > 250 && (dirty.has("engines") || dirty.has("work") || dirty.has("failures")))) {
    last.table = now;
    if (all || dirty.has("engines")) engines.render();
    if (store.ready && (all || dirty.has("work"))) work.render();
    if (store.ready && (all || dirty.has("failures"))) failures.render();
    for (const each of ["engines", "work", "failures"]) dirty.delete(each);
    engines.drawGrid();
  }
  if (all || timeline.stale || (now - last.timeline > 48 && !document.hidden)) {
    last.timeline = now;
    timeline.draw();
  }
  dirty.delete("all");
}

document.addEventListener("visibilitychange", () => store.connect());
store.connect();
new Logs();
requestAnimationFrame(frame);
