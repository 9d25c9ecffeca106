// Live values: a card for each device, a row for each of its series, with a sparkline of the last hour.

import { spark } from "./chart.js";
import { ago, make, makeSvg, plural, pointName, quantity, setText } from "./format.js";

const HOUR_MS = 3_600_000;
const SPARK_MS_MIN = 120_000;
const BUCKET_MS = 15_000;
const GAP_MS = 390_000;
const BATCH = 16;
const OLD_S_MIN = 15;
// What is read once a minute is never older while all is well.
const FRESH_S = 90;
const STATE_WORDS = {
  up: "up", failing: "failing", parked: "parked", disabled: "switched off", starting: "starting", stuck: "stuck",
};

// A device with one value and nothing to tell needs no heading of its own on a small screen.
function shape({ node, list, up }) {
  node.classList.toggle("is-single", up && list.childElementCount === 1);
}

export class Cards {
  constructor(parent, empty, open) {
    this.parent = parent;
    this.empty = empty;
    this.open = open;
    this.rows = new Map();
    this.cards = new Map();
    this.wanted = new Set();
    this.fetching = false;
    this.offset = 0;
    this.seen = new IntersectionObserver((entries) => this.appeared(entries), { rootMargin: "200px" });
  }

  // Devices with their points: the order, and a row for what has no value yet.
  place(devices) {
    for (const device of devices) {
      const card = this.card(device.name);
      card.interval = device.interval_s;
      this.state(device);
      for (const point of device.points) {
        const row = this.row(point.series, device.name);
        if (!row.reading && point.quality) this.put(point);
      }
      this.parent.append(card.node);
    }
  }

  card(device) {
    let card = this.cards.get(device);
    if (!card) {
      const state = make("span", { class: "state" });
      const list = make("ul", { class: "rows" });
      const title = make("h3", {}, make("span", {}, device), state);
      const node = make("article", { class: "panel card", "data-device": device }, title, list);
      card = { node, list, state, interval: 0, up: false };
      this.cards.set(device, card);
      this.parent.append(node);
      this.empty.hidden = true;
    }
    return card;
  }

  state({ name, state }) {
    const card = this.cards.get(name);
    if (!card) return;
    card.state.className = `state is-${state}`;
    setText(card.state, state === "up" ? "" : (STATE_WORDS[state] ?? state));
    card.up = state === "up";
    shape(card);
  }

  row(series, device = series.split(".", 1)[0]) {
    let row = this.rows.get(series);
    if (row) return row;
    const card = this.card(device);
    row = {
      series, device, card, points: [], reading: null, at: 0, decimals: 3, unit: "", visible: false, drawn: 0,
      number: make("span", { class: "number" }, "–"),
      unitNode: make("span", { class: "unit" }),
      age: make("span", { class: "age" }, "no value yet"),
      tag: make("span", { class: "tag", hidden: true }),
      svg: makeSvg("svg", { class: "spark", "aria-hidden": "true", focusable: "false", preserveAspectRatio: "none" }),
    };
    const button = make(
      "button",
      { type: "button", class: "row", "aria-haspopup": "dialog", "data-series": series },
      make("span", { class: "name" }, make("span", { class: "of", "aria-hidden": "true" }, device),
        make("span", { class: "point" }, pointName(series, device)),
        make("span", { class: "under" }, row.tag, row.age)),
      row.svg,
      make("span", { class: "amount" }, row.number, " ", row.unitNode),
    );
    button.addEventListener("click", () => this.open(series));
    row.button = button;
    row.item = make("li", {}, button);
    row.item.dataset.series = series;
    card.list.append(row.item);
    shape(card);
    this.rows.set(series, row);
    this.seen.observe(row.item);
    return row;
  }

  put(reading) {
    const row = this.row(reading.series);
    row.reading = reading;
    row.at = performance.now() - (reading.age_s ?? 0) * 1000;
    row.unit = reading.unit;
    row.decimals = reading.decimals ?? row.decimals;
    const [number, unit] = quantity(reading.value, reading.unit, row.decimals);
    setText(row.number, number);
    setText(row.unitNode, unit);
    row.number.classList.toggle("is-none", reading.value === null);
    this.mark(row);
    if (reading.ts) this.note(row, reading);
    if (row.visible) this.draw(row);
  }

  // The sparkline keeps one point for a quarter of a minute: the last.
  note(row, reading) {
    const bad = reading.quality === "bad";
    const point = { t: Date.parse(reading.ts), v: bad ? null : reading.value, bad };
    const last = row.points.at(-1);
    if (last && Math.floor(last.t / BUCKET_MS) === Math.floor(point.t / BUCKET_MS)) row.points.pop();
    row.points.push(point);
    const from = point.t - HOUR_MS;
    while (row.points.length > 1 && row.points[0].t < from) row.points.shift();
  }

  mark(row) {
    const { quality, reason } = row.reading;
    const old = this.isOld(row);
    let words = "";
    if (quality === "bad") words = `⚠ bad${reason ? `: ${reason}` : ""}`;
    else if (quality === "estimated") words = `≈ estimated${reason ? `: ${reason}` : ""}`;
    else if (old) words = "old value";
    setText(row.tag, words);
    row.tag.hidden = !words;
    // That a value is of now goes without saying.
    row.age.hidden = !old && this.ageOf(row) < FRESH_S;
    setText(row.age, row.age.hidden ? "" : ago(this.ageOf(row)));
    row.button.className = `row${quality === "bad" ? " is-bad" : ""}${quality === "estimated" ? " is-estimated" : ""}${old ? " is-old" : ""}`;
  }

  ageOf(row) {
    return (performance.now() - row.at) / 1000;
  }

  isOld(row) {
    return this.ageOf(row) > Math.max(OLD_S_MIN, 3 * row.card.interval);
  }

  // Once a second: ages, and what has grown old.
  tick() {
    for (const row of this.rows.values()) {
      if (!row.reading) continue;
      this.mark(row);
    }
  }

  gone(names) {
    for (const name of names) {
      const row = this.rows.get(name);
      if (!row) continue;
      this.seen.unobserve(row.item);
      row.item.remove();
      shape(row.card);
      this.rows.delete(name);
      if (!row.card.list.childElementCount) {
        row.card.node.remove();
        this.cards.delete(row.device);
      }
    }
  }

  draw(row) {
    const last = row.points.at(-1);
    if (!last) return;
    const from = Math.max(last.t - HOUR_MS, Math.min(row.points[0].t, last.t - SPARK_MS_MIN));
    spark(row.svg, row.points, row.decimals, from, last.t, GAP_MS);
  }

  appeared(entries) {
    for (const entry of entries) {
      const row = this.rows.get(entry.target.dataset.series);
      if (!row) continue;
      row.visible = entry.isIntersecting;
      if (row.visible && !row.drawn) {
        row.drawn = 1;
        this.wanted.add(row.series);
      }
      if (row.visible) this.draw(row);
    }
    this.fill();
  }

  // The last hour of what is on the screen, some series at a time.
  async fill() {
    if (this.fetching) return;
    this.fetching = true;
    try {
      while (this.wanted.size) {
        const names = [...this.wanted].slice(0, BATCH);
        names.forEach((name) => this.wanted.delete(name));
        await this.history(names);
      }
    } finally {
      this.fetching = false;
    }
  }

  async history(names) {
    const query = names.map((name) => `series=${encodeURIComponent(name)}`).join("&");
    let answer;
    try {
      answer = await fetch(`/api/v1/readings?${query}&from=-1h&resolution=PT1M&limit=61`);
    } catch {
      return;
    }
    if (answer.status === 404 && names.length > 1) {
      // One of them has no history yet.
      for (const name of names) await this.history([name]);
      return;
    }
    if (!answer.ok) return;
    for (const part of (await answer.json()).readings) {
      const row = this.rows.get(part.series);
      if (!row) continue;
      const older = part.readings.map((reading) => ({
        t: Date.parse(reading.ts), v: reading.quality === "bad" ? null : reading.value, bad: reading.quality === "bad",
      }));
      const begin = row.points[0]?.t ?? Infinity;
      row.points = [...older.filter((point) => point.t < begin), ...row.points];
      this.draw(row);
    }
  }

  // After a pause in the stream the sparklines lack what came meanwhile.
  refill() {
    for (const row of this.rows.values()) {
      row.points = [];
      row.drawn = row.visible ? 1 : 0;
      if (row.visible) this.wanted.add(row.series);
    }
    this.fill();
  }

  summary() {
    const bad = [...this.rows.values()].filter((row) => row.reading?.quality === "bad").length;
    return bad ? `${plural(bad, "bad value")}` : "";
  }
}
