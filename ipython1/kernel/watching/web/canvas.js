// What the canvases share: sharp pixels, and the colours of the style sheet.

export function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const w = Math.max(1, Math.round(width * ratio)), h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

let known = null;

export function colours() {
  if (known) return known;
  const style = getComputedStyle(document.documentElement);
  known = {};
  for (const name of ["page", "card", "line", "soft", "text", "muted", "accent", "good", "bad", "warn", "idle", "command"])
    known[name] = style.getPropertyValue(`--${name}`).trim();
  known.kinds = [];
  for (let i = 0; i < 8; i += 1) known.kinds.push(style.getPropertyValue(`--k${i}`).trim());
  return known;
}

export function forgetColours() { known = null; }

const given = new Map();

// The same colour for the same function, for as long as the page is open; the first eight differ.
export function colourOf(kind, what) {
  if (kind === "command") return colours().command;
  let index = given.get(what);
  if (index === undefined) {
    if (given.size > 500) given.clear();
    given.set(what, index = given.size % 8);
  }
  return colours().kinds[index];
}
