// Charts and sparklines in SVG.  Points are { t: ms, v: number | null, min, max, bad, reason }; changes are { t, text }.

import { LOCALE, decimal, makeSvg, scaling } from "./format.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const TIME_STEPS = [60_000, 300_000, 600_000, 900_000, 1_800_000, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
const DAY_STEPS = [1, 2, 3, 5, 7, 10, 14];
const SPARK = { width: 120, height: 32, pad: 3 };
const MARGIN = { top: 26, right: 14, bottom: 30 };
const LABEL_PX = 60;
const hourLabel = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });
const dayLabel = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });

// Lines through the points that have a value, broken where `gapMs` passed without one.
export function runs(points, gapMs) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (point.v === null || point.bad) {
      last = null;
      continue;
    }
    if (last === null || point.t - last > gapMs) found.push([]);
    found.at(-1).push(point);
    last = point.t;
  }
  return found;
}

function path(run, x, y) {
  const start = `M${x(run[0].t).toFixed(1)} ${y(run[0].v).toFixed(1)}`;
  // A single point is a dot: a line of no length with a round end.
  if (run.length === 1) return `${start}h0`;
  return start + run.slice(1).map((point) => `L${x(point.t).toFixed(1)} ${y(point.v).toFixed(1)}`).join("");
}

function extent(points, decimals) {
  const good = points.filter((point) => point.v !== null && !point.bad);
  if (!good.length) return null;
  let low = Infinity;
  let high = -Infinity;
  for (const point of good) {
    low = Math.min(low, point.min ?? point.v);
    high = Math.max(high, point.max ?? point.v);
  }
  // What only wavers in its last digit is drawn as the flat line that it is.
  const span = Math.max(high - low, 10 * 10 ** -Math.min(decimals, 3));
  const middle = (low + high) / 2;
  return [middle - span / 2, middle + span / 2];
}

export function spark(svg, points, decimals, from, to, gapMs) {
  const { width, height, pad } = SPARK;
  if (!svg.hasAttribute("viewBox")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const span = extent(points, decimals);
  if (!span) {
    svg.replaceChildren();
    return;
  }
  const x = (t) => pad + ((t - from) / (to - from)) * (width - 2 * pad);
  const y = (v) => height - pad - ((v - span[0]) / (span[1] - span[0])) * (height - 2 * pad);
  const lines = runs(points, gapMs).map((run) => path(run, x, y)).join("");
  const last = points.findLast((point) => point.v !== null && !point.bad);
  svg.replaceChildren(
    makeSvg("path", { d: lines, class: "line" }),
    makeSvg("path", { d: path([last], x, y), class: "tip" }),
  );
}

export function valueTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough * 0.999999);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) ticks.push(at * step + 0);
  return { ticks, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

export function timeTicks(from, to, wanted) {
  const small = TIME_STEPS.find((step) => (to - from) / step <= wanted);
  const ticks = [];
  const day = new Date(from);
  day.setHours(0, 0, 0, 0);
  if (small) {
    for (let at = day.getTime(); at <= to; at += small) if (at >= from) ticks.push(at);
    return ticks;
  }
  const days = DAY_STEPS.find((step) => (to - from) / (step * DAY) <= wanted) ?? DAY_STEPS.at(-1);
  while (day.getTime() <= to) {
    if (day.getTime() >= from) ticks.push(day.getTime());
    day.setDate(day.getDate() + days);
  }
  return ticks;
}

function timeText(at, span) {
  const date = new Date(at);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  return span > 2 * DAY || (midnight && span > 2 * HOUR) ? dayLabel.format(date) : hourLabel.format(date);
}

// Draws into `svg` and returns where things are, for the cursor; null when there is nothing to draw.
export function chart(svg, { points, changes, from, to, unit, decimals, gapMs, width, height }) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const span = extent(points, decimals);
  if (!span) {
    svg.replaceChildren();
    return null;
  }
  const pad = (span[1] - span[0]) * 0.06;
  const [low, high] = [span[0] - pad, span[1] + pad];
  const [times, scaled] = scaling(low, high, unit);
  const scale = valueTicks(low * times, high * times, height < 260 ? 4 : 6);
  const labels = scale.ticks.map((tick) => decimal(tick, scale.decimals));
  const left = 14 + 7.2 * Math.max(...labels.map((label) => label.length), 3);
  const x = (t) => left + ((t - from) / (to - from)) * (width - left - MARGIN.right);
  const y = (v) => height - MARGIN.bottom - ((v - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
  const lines = runs(points, gapMs);
  svg.replaceChildren(
    ...grid({ scale, labels, left, x, y: (tick) => y(tick / times), from, to, unit: scaled, width, height }),
    ...changeMarks(changes, x, height - MARGIN.bottom),
    makeSvg("path", { d: lines.filter((run) => run.length > 1).map((run) => band(run, x, y)).join(""), class: "band" }),
    makeSvg("path", { d: lines.map((run) => path(run, x, y)).join(""), class: "line" }),
    ...badMarks(points, x, height - MARGIN.bottom),
    makeSvg("g", { class: "cursor" }),
  );
  return { x, y, left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
}

function grid({ scale, labels, left, x, y, from, to, unit, width, height }) {
  const parts = [];
  scale.ticks.forEach((tick, number) => {
    parts.push(makeSvg("line", { x1: left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick), class: "grid" }));
    parts.push(makeSvg("text", { x: left - 8, y: y(tick) + 4, class: "label end" }, labels[number]));
  });
  const wanted = Math.max(2, Math.floor((width - left) / LABEL_PX));
  for (const at of timeTicks(from, to, wanted)) {
    const place = x(at);
    const base = height - MARGIN.bottom;
    parts.push(makeSvg("line", { x1: place, x2: place, y1: base, y2: base + 5, class: "tick" }));
    if (place < left + 16 || place > width - 18) continue;
    parts.push(makeSvg("text", { x: place, y: base + 19, class: "label middle" }, timeText(at, to - from)));
  }
  parts.push(makeSvg("line", { x1: left, x2: width - MARGIN.right, y1: height - MARGIN.bottom, y2: height - MARGIN.bottom, class: "tick" }));
  if (unit) parts.push(makeSvg("text", { x: left - 8, y: 14, class: "label end unit" }, unit));
  return parts;
}

// From the smallest to the largest value of each interval.
function band(run, x, y) {
  if (run[0].min === undefined) return "";
  const up = run.map((point) => `${x(point.t).toFixed(1)} ${y(point.max ?? point.v).toFixed(1)}`);
  const down = run.map((point) => `${x(point.t).toFixed(1)} ${y(point.min ?? point.v).toFixed(1)}`).reverse();
  return `M${up.join("L")}L${down.join("L")}Z`;
}

function badMarks(points, x, base) {
  return points
    .filter((point) => point.bad)
    .map((point) => makeSvg("path", { d: `M${x(point.t) - 3} ${base - 9}l6 6m0 -6l-6 6`, class: "bad-mark" }));
}

// Where what was measured did not change, but how it was told.
function changeMarks(changes, x, base) {
  return changes.map(({ t, text }) => (
    makeSvg("path", { d: `M${x(t).toFixed(1)} ${MARGIN.top}V${base}`, class: "change" }, makeSvg("title", {}, text))
  ));
}

export function cursor(svg, place, point) {
  const group = svg.querySelector(".cursor");
  if (!group || !place) return;
  if (!point) {
    group.replaceChildren();
    return;
  }
  const at = place.x(point.t);
  const parts = [makeSvg("line", { x1: at, x2: at, y1: place.top, y2: place.bottom })];
  if (point.v !== null && !point.bad) parts.push(makeSvg("circle", { cx: at, cy: place.y(point.v), r: 4 }));
  group.replaceChildren(...parts);
}
