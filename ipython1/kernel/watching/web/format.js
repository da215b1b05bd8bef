// Numbers as people read them.

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});

export function count(value) { return whole.format(value); }

// A number with three digits, or more before the point.
export function short(value) {
  if (value >= 100 || value === 0) return whole.format(value);
  return value >= 10 ? value.toFixed(1) : value >= 0.01 ? value.toFixed(2) : value.toPrecision(1);
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 999.5 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${at === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

// A time in seconds, in one or two units.
export function duration(seconds) {
  if (!(seconds >= 0)) return "0 s";
  if (seconds < 0.00005) return seconds > 0 ? "< 0.1 ms" : "0 ms";
  if (seconds < 0.0995) return `${short(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  for (const [size, unit, less, lesser] of units) {
    if (total >= size) {
      const rest = Math.floor((total % size) / less);
      return rest ? `${Math.floor(total / size)} ${unit} ${rest} ${lesser}` : `${Math.floor(total / size)} ${unit}`;
    }
  }
  return `${total} s`;
}

const clockFormat = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});

export function clock(seconds) { return clockFormat.format(new Date(seconds * 1000)); }

export function plural(value, word) { return `${count(value)} ${word}${value === 1 ? "" : "s"}`; }
