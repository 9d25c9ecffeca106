// Numbers, times and elements.  All text goes through text nodes: nothing from the site is ever read as markup.

export const LOCALE = "en-GB";
const DECIMALS_MAX = 3;
const SVG = "http://www.w3.org/2000/svg";
const BYTES = ["B", "kB", "MB", "GB", "TB"];
// What a unit means to a person at most, whatever its source counts in: a probe's sixteenth of a degree is 0.06.
const DECIMALS_OF = { "°C": 2 };
const clockTime = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayTime = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const whole = new Intl.NumberFormat(LOCALE);
const fixed = new Map();

// An element: make("p", { class: "quiet" }, "text", child).  Attributes that are null or false are left out.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  return dress(node, attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Change a text only when it is another one: what did not change is not painted, or read out, again.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function count(number) {
  return whole.format(number);
}

export function decimal(value, decimals) {
  const digits = Math.min(Math.max(decimals, 0), DECIMALS_MAX);
  if (!fixed.has(digits)) {
    fixed.set(digits, new Intl.NumberFormat(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
  return fixed.get(digits).format(value);
}

// `sharp` keeps a digit more: of what is watched while it grows.
export function bytes(number, sharp = false) {
  let step = 0;
  while (Math.abs(number) >= 1000 && step < BYTES.length - 1) {
    number /= 1000;
    step += 1;
  }
  return `${decimal(number, step && (sharp || number < 100) ? 1 : 0)} ${BYTES[step]}`;
}

// Texts of the daemon mark what is to be typed with backticks.
export function setProse(node, text) {
  if (node.textContent === text.replaceAll("`", "")) return;
  node.replaceChildren(...text.split("`").map((part, number) => (number % 2 ? make("code", {}, part) : part)));
}

// The powers of 1000 of a unit of bytes: 2 of "MB" and of "MB/s"; -1 of any other unit.
function byteSteps(unit) {
  return BYTES.indexOf(unit.replace("/s", ""));
}

// For an axis from `low` to `high`: [times, unit] by which its steps stay numbers of a few digits.
export function scaling(low, high, unit) {
  const from = byteSteps(unit);
  let to = from;
  const fits = (step) => {
    const times = 1000 ** (from - step);
    return Math.max(Math.abs(low), Math.abs(high)) * times >= 1 && (high - low) * times >= 0.01;
  };
  while (from >= 0 && to < BYTES.length - 1 && fits(to + 1)) to += 1;
  return from < 0 ? [1, unit] : [1000 ** (from - to), BYTES[to] + (unit.endsWith("/s") ? "/s" : "")];
}

// A value in two parts: its number and its unit.
export function quantity(value, unit, decimals) {
  if (value === null || value === undefined) return ["–", ""];
  const steps = byteSteps(unit);
  if (steps >= 0) {
    const [number, scaled] = bytes(value * 1000 ** steps, true).split(" ");
    return [number, scaled + (unit.endsWith("/s") ? "/s" : "")];
  }
  if (unit === "s" && value >= 120) return [duration(value), ""];
  return [decimal(value, Math.min(decimals, DECIMALS_OF[unit] ?? DECIMALS_MAX)), unit];
}

export function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function ago(seconds) {
  return `${duration(seconds)} ago`;
}

export function timeOfDay(date) {
  return clockTime.format(date);
}

export function when(date) {
  const today = new Date().toDateString() === date.toDateString();
  return today ? clockTime.format(date) : dayTime.format(date);
}

export function zone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
}

// "tank.water_level" of device "tank" is "water level".
export function pointName(series, device) {
  const name = series.startsWith(`${device}.`) ? series.slice(device.length + 1) : series;
  return name.replaceAll("_", " ");
}
