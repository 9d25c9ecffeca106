// The chart of one series over an hour to a month.

import { chart, cursor } from "./chart.js";
import { duration, make, makeSvg, pointName, quantity, setText, when } from "./format.js";

const HOUR = 3_600_000;
const RANGES = {
  "1h": { from: "-1h", ms: HOUR, resolution: "raw", limit: 3700, gapMs: 330_000 },
  "24h": { from: "-24h", ms: 24 * HOUR, resolution: "PT1M", limit: 1450, gapMs: 390_000 },
  "7d": { from: "-7d", ms: 168 * HOUR, resolution: "PT1H", limit: 200, gapMs: 2 * HOUR },
  "30d": { from: "-30d", ms: 720 * HOUR, resolution: "PT1H", limit: 800, gapMs: 2 * HOUR },
};
const REFRESH_MS = 60_000;
const CHANGES_ASKED = 100;
const STEP_MS_MIN = 1000;
// What makes a series jump while the water stands still; how it is told, by the kind of event.
const CHANGES = {
  "calibration-changed": () => "calibration changed",
  "clock-stepped": ({ step_ms: ms }) => clockWords(ms),
  "clock-confirmed": ({ ahead_ms: ms }) => clockWords(ms),
};
const byId = (id) => document.getElementById(id);

export class Detail {
  constructor(cards) {
    this.cards = cards;
    this.dialog = byId("chart");
    this.series = null;
    this.range = "1h";
    this.points = [];
    this.changes = [];
    this.at = -1;
    this.asked = 0;
    this.svg = makeSvg("svg", { class: "chart", role: "img", tabindex: "0" });
    byId("chart-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.closed());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    for (const input of this.dialog.querySelectorAll("input[name=range]")) {
      input.addEventListener("change", () => this.show(this.series, input.value));
    }
    this.svg.addEventListener("pointermove", (event) => this.pointed(event));
    this.svg.addEventListener("pointerdown", (event) => this.pointed(event));
    this.svg.addEventListener("keydown", (event) => this.pressed(event));
    new ResizeObserver(() => this.draw()).observe(byId("plot"));
    window.addEventListener("hashchange", () => this.fromAddress());
    setInterval(() => this.open && document.visibilityState === "visible" && this.load(), REFRESH_MS);
  }

  get open() {
    return this.dialog.open;
  }

  // A chart has an address: #tank.temperature/24h
  fromAddress() {
    const [series, range] = decodeURIComponent(location.hash.slice(1)).split("/");
    if (series) this.show(series, range in RANGES ? range : "1h");
    else if (this.open) this.dialog.close();
  }

  show(series, range = "1h") {
    if (this.open && series === this.series && range === this.range) return;
    this.series = series;
    this.range = range;
    this.at = -1;
    const address = `#${encodeURIComponent(series)}/${range}`;
    if (location.hash !== address) history.replaceState(null, "", address);
    setText(byId("chart-title"), `${series.split(".", 1)[0]} · ${pointName(series, series.split(".", 1)[0])}`);
    this.dialog.querySelector(`input[value="${range}"]`).checked = true;
    this.points = [];
    this.changes = [];
    byId("plot").replaceChildren(make("p", { class: "quiet" }, "Loading…"));
    byId("changes").replaceChildren();
    byId("summary").replaceChildren();
    setText(byId("readout"), "");
    if (!this.open) this.dialog.showModal();
    this.load();
  }

  closed() {
    this.series = null;
    this.asked += 1;
    history.replaceState(null, "", location.pathname);
  }

  async load() {
    const asked = ++this.asked;
    const range = RANGES[this.range];
    const query = `series=${encodeURIComponent(this.series)}&from=${range.from}&resolution=${range.resolution}&limit=${range.limit}`;
    let words;
    try {
      const [answer, changes] = await Promise.all([fetch(`/api/v1/readings?${query}`), this.changed()]);
      const body = await answer.json();
      if (asked !== this.asked) return;
      if (answer.ok) {
        const [part] = body.readings;
        this.unit = part.unit;
        this.points = part.readings.map(toPoint);
        this.changes = changes;
        this.draw();
        return;
      }
      words = body.error;
    } catch {
      words = "The history cannot be reached now.";
    }
    if (asked === this.asked && !this.points.length) this.say(words);
  }

  // The series is shown without its marks where they cannot be had.
  async changed() {
    const kinds = Object.keys(CHANGES).map((kind) => `kind=${kind}`).join("&");
    try {
      const answer = await fetch(`/api/v1/events?${kinds}&limit=${CHANGES_ASKED}`);
      if (!answer.ok) return [];
      const { events } = await answer.json();
      return events
        .filter(({ kind, subject }) => kind.startsWith("clock-") || subject === this.series)
        .map(({ ts, kind, body }) => ({ t: Date.parse(ts), text: CHANGES[kind](body) }))
        .filter(({ text }) => text);
    } catch {
      return [];
    }
  }

  say(words) {
    byId("plot").replaceChildren(make("p", { class: "quiet" }, words));
  }

  // The hour grows as values come; the longer ones are asked for again now and then.
  put(reading) {
    if (!this.open || this.range !== "1h" || !this.points.length || !reading.ts) return;
    const point = toPoint(reading);
    if (point.t <= this.points.at(-1).t) return;
    this.points.push(point);
    while (this.points[0].t < point.t - RANGES["1h"].ms) this.points.shift();
    this.draw();
  }

  draw() {
    const plot = byId("plot");
    if (!this.open || plot.clientWidth === 0) return;
    if (!this.points.length) {
      if (this.asked && plot.contains(this.svg)) this.say("No values in this time.");
      else if (this.unit !== undefined && !this.points.length) this.say("No values in this time.");
      return;
    }
    const range = RANGES[this.range];
    const row = this.cards.rows.get(this.series);
    this.decimals = row?.decimals ?? 2;
    // The end is the site's own now: a phone's clock may be wrong.
    const to = Math.max(this.points.at(-1).t, this.points[0].t + 60_000);
    const width = plot.clientWidth;
    if (!plot.contains(this.svg)) plot.replaceChildren(this.svg);
    const changes = this.changes.filter(({ t }) => t >= to - range.ms && t <= to);
    this.place = chart(this.svg, {
      points: this.points, changes, from: to - range.ms, to, unit: this.unit, decimals: this.decimals, gapMs: range.gapMs,
      width, height: width < 500 ? 240 : 320,
    });
    if (!this.place) {
      this.say("No usable values in this time.");
      return;
    }
    byId("changes").replaceChildren(...changes.map(({ t, text }) => make("li", {}, `┆ ${when(new Date(t))}: ${text}`)));
    this.svg.setAttribute("aria-label", this.summarise());
    this.mark();
  }

  text(value) {
    return quantity(value, this.unit, this.decimals).join(" ").trim();
  }

  summarise() {
    const good = this.points.filter((point) => point.v !== null && !point.bad);
    const low = Math.min(...good.map((point) => point.min ?? point.v));
    const high = Math.max(...good.map((point) => point.max ?? point.v));
    const mean = good.reduce((sum, point) => sum + point.v, 0) / good.length;
    const bad = this.points.length - good.length;
    const facts = [["Lowest", this.text(low)], ["Mean", this.text(mean)], ["Highest", this.text(high)], ["Last", this.text(good.at(-1).v)]];
    if (bad) facts.push(["Bad values", String(bad)]);
    byId("summary").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    return `Chart. ${facts.map(([name, value]) => `${name} ${value}`).join(", ")}. Arrow keys move along the values.`;
  }

  pointed(event) {
    if (!this.place) return;
    const { left, width } = this.svg.getBoundingClientRect();
    const x = ((event.clientX - left) / width) * this.svg.viewBox.baseVal.width;
    let best = 0;
    this.points.forEach((point, number) => {
      if (Math.abs(this.place.x(point.t) - x) < Math.abs(this.place.x(this.points[best].t) - x)) best = number;
    });
    this.at = best;
    this.mark();
  }

  pressed(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.points.length) return;
    event.preventDefault();
    const from = this.at < 0 ? this.points.length - 1 : this.at;
    this.at = Math.min(this.points.length - 1, Math.max(0, from + step));
    this.mark();
  }

  mark() {
    const point = this.points[this.at];
    cursor(this.svg, this.place, point);
    if (!point) {
      setText(byId("readout"), "");
      return;
    }
    const words = point.bad ? `bad${point.reason ? `: ${point.reason}` : ""}` : this.text(point.v);
    const span = point.min !== undefined && point.min !== null ? ` (${this.text(point.min)} to ${this.text(point.max)})` : "";
    setText(byId("readout"), `${when(new Date(point.t))}: ${words}${point.bad ? "" : span}`);
  }
}

function clockWords(ms) {
  return Math.abs(ms) < STEP_MS_MIN ? "" : `clock set ${duration(Math.abs(ms) / 1000)} ${ms < 0 ? "back" : "ahead"}`;
}

function toPoint(reading) {
  const bad = reading.quality === "bad" || reading.value === null;
  const point = { t: Date.parse(reading.ts), v: reading.value, bad, reason: reading.reason ?? "" };
  return reading.min === undefined || reading.min === null ? point : { ...point, min: reading.min, max: reading.max };
}
