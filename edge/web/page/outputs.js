// Outputs: what each one does, why, since when, what it overrules, what is wrong with it, and its last changes.

import { duration, make, plural, setProse, setText, when } from "./format.js";

const SAME = 0.005;
const OLD_S = 15;
const KINDS = { topoff: "top-off", return: "return pump", air: "air pump", cutoff: "cut-off", other: "" };
const LAYERS = {
  safety: "⚠ Safety", override: "By hand", macro: "Macro", controller: "Thermostat", schedule: "Schedule",
  default: "Default",
};
const SPEAKERS = { override: "by hand", controller: "thermostat", schedule: "schedule", macro: "macro", safety: "safety" };
const HOLDERS = {
  device: "its own timer",
  release: "the pull of its line",
  oe: "the chip's OE pin",
  nobody: "nobody: it stays as it is",
};
export const OUTCOMES = { pending: "… on its way", failed: "✕ failed" };

// The level in words: "on", "off", "80 %".
export function levelWords(level, dimmable) {
  if (level === null || level === undefined) return "not known";
  if (level <= 0) return "off";
  return dimmable && level < 1 ? `${Math.max(1, Math.round(level * 100))} %` : "on";
}

function mark(level) {
  if (level <= 0) return "○";
  return level < 1 ? "◐" : "●";
}

export class Outputs {
  // `open` shows the chart of a series.
  constructor(list, section, sum, open) {
    this.open = open;
    this.list = list;
    this.section = section;
    this.sum = sum;
    this.items = new Map();
  }

  show(outputs) {
    this.section.hidden = !outputs.length;
    const names = new Set(outputs.map((output) => output.name));
    for (const [name, item] of this.items) {
      if (names.has(name)) continue;
      item.node.remove();
      this.items.delete(name);
    }
    outputs.forEach((output, place) => {
      const item = this.items.get(output.name) ?? this.add(output.name);
      if (this.list.children[place] !== item.node) this.list.insertBefore(item.node, this.list.children[place] ?? null);
      fill(item, output);
    });
    setText(this.sum, summary(outputs));
  }

  add(name) {
    const item = {
      title: make("span"), kind: make("small", { class: "quiet" }), mark: make("span", { "aria-hidden": "true" }),
      level: make("span"), fault: make("p", { class: "notice bad" }), layer: make("span", { class: "layer" }),
      reason: make("span"), since: make("p", { class: "quiet since" }), notes: make("ul", { class: "notes" }),
      hardware: make("p", { class: "quiet" }), hold: make("p", { class: "quiet" }), changes: make("ol", { class: "changes" }), none: make("p", { class: "quiet" }, "None yet."),
    };
    const chart = make("button", { type: "button", class: "link" }, "Chart", make("span", { class: "unseen" }, ` of ${name}`));
    chart.addEventListener("click", () => this.open(`output.${name}.level`));
    const words = make("summary", {}, "Last changes", make("span", { class: "unseen" }, ` of ${name}`));
    item.node = make(
      "li", { class: "panel output", "data-output": name },
      make("h3", {}, make("span", { class: "who" }, item.title, " ", item.kind), make("span", { class: "level" }, item.mark, " ", item.level)),
      item.fault, make("p", { class: "reason" }, item.layer, " ", item.reason), item.since, item.notes,
      make("details", {}, words, item.changes, item.none, item.hardware, item.hold, chart),
    );
    this.items.set(name, item);
    return item;
  }
}

function summary(outputs) {
  const wrong = outputs.filter((output) => output.state === "faulted" || output.state === "stuck").length;
  const held = outputs.filter((output) => output.cause?.layer === "safety").length;
  const on = outputs.filter((output) => output.level > 0).length;
  const parts = [`${on} of ${outputs.length} on`];
  if (held) parts.push(`⚠ ${held} held by safety`);
  if (wrong) parts.push(`✕ ${plural(wrong, "fault")}`);
  return parts.join(" · ");
}

function fill(item, output) {
  const broken = output.state === "faulted" || output.state === "stuck";
  setText(item.title, output.name.replaceAll("_", " "));
  const kind = KINDS[output.kind] ?? output.kind;
  setText(item.kind, kind === output.name ? "" : kind);
  setText(item.mark, broken ? "✕" : mark(output.level));
  const words = levelWords(output.level, output.dimmable);
  setText(item.level, broken ? `should be ${words}` : words);
  item.node.className = `panel output is-${output.level > 0 ? "on" : "off"}${broken ? " is-broken" : ""}`;
  item.fault.hidden = !output.fault;
  setProse(item.fault, output.fault ? `✕ ${output.state}: ${output.fault}` : "");
  showReason(item, output);
  showLines(item.notes, notes(output, broken));
  setText(item.hardware, hardware(output));
  showChanges(item, output);
}

// What it was told last, and what it says itself.
function hardware({ believed, read_back: readBack, dimmable }) {
  const written = believed === null || believed === undefined ? "Nothing written yet" : `Written: ${levelWords(believed, dimmable)}`;
  const says = readBack === null || readBack === undefined ? "it cannot be read back" : `it says ${levelWords(readBack, dimmable)}`;
  return `${written}; ${says}.`;
}

function showReason(item, { cause, since, since_s: passed, until, sentence, state }) {
  item.layer.hidden = !cause;
  if (!cause) {
    setText(item.reason, state === "starting" ? "Starting: it is at its safe level." : sentence);
    setText(item.since, "");
    return;
  }
  setText(item.layer, LAYERS[cause.layer] ?? cause.layer);
  item.layer.className = `layer is-${cause.layer}`;
  setText(item.reason, cause.layer === "default" ? "" : `because ${cause.text}`);
  const parts = [];
  if (since) parts.push(`since ${when(new Date(since))}`);
  else if (passed) parts.push(`for ${duration(passed)}`);
  if (until) parts.push(`until ${when(new Date(until))}`);
  else if (cause.remaining_s) parts.push(`for ${duration(cause.remaining_s)} more`);
  setText(item.since, parts.join(" · "));
}

// What is worth saying beside the reason: who lost, and where the hardware is not where it should be.
function notes(output, broken) {
  const found = output.overruled
    .filter((cause) => cause.layer !== "default")
    .map((cause) => overruled(cause, output.dimmable));
  const { override, believed, read_back: readBack, level, dimmable } = output;
  if (override?.blind) found.push("! Driven without its input, by a person at the site");
  if (override?.why) found.push(`Reason given: ${override.why}`);
  const differs = (one, other) => one !== null && one !== undefined && Math.abs(one - other) > SAME;
  if (!broken && differs(believed, level)) found.push(`On its way: now ${levelWords(believed, dimmable)}`);
  if (believed !== null && believed !== undefined && differs(readBack, believed)) {
    found.push(`! The hardware says ${levelWords(readBack, dimmable)}`);
  }
  if (!output.local && output.age_s > OLD_S) found.push(`! Last reached ${duration(output.age_s)} ago`);
  return found;
}

// "thermostat tank wants on (25.1 °C is too cold for 25.5 °C)": who it is stands in its text too, and is said once.
function overruled(cause, dimmable) {
  const word = SPEAKERS[cause.layer] ?? cause.layer;
  const wants = `wants ${levelWords(cause.level, dimmable)}${cause.until ? ` until ${when(new Date(cause.until))}` : ""}`;
  if (cause.layer === "override") return `Overruled: ${cause.name || "a person"}, by hand, ${wants}`;
  if (cause.layer === "safety") return `Overruled: safety ${wants}, because ${cause.text}`;
  const who = `${word} ${cause.name}`;
  if (cause.text === `${who} is on`) return `Overruled: ${who} ${wants}`;
  const said = cause.text.startsWith(`${who}: `) ? ` (${cause.text.slice(who.length + 2)})` : `, because ${cause.text}`;
  return `Overruled: ${who} ${wants}${said}`;
}

function showLines(list, lines) {
  while (list.childElementCount > lines.length) list.lastElementChild.remove();
  while (list.childElementCount < lines.length) list.append(make("li"));
  lines.forEach((line, number) => {
    setText(list.children[number], line);
    list.children[number].className = line.startsWith("!") ? "is-warning" : "";
  });
}

function showChanges(item, { changes, dimmable, hold_by: by, hold_s: held, safe }) {
  item.none.hidden = changes.length > 0;
  while (item.changes.childElementCount > changes.length) item.changes.lastElementChild.remove();
  changes.forEach((change, number) => {
    const row = item.changes.children[number] ?? item.changes.appendChild(changeRow());
    const [time, text] = row.children;
    time.setAttribute("datetime", change.ts);
    setText(time, when(new Date(change.ts)));
    const [strong, small] = text.children;
    const outcome = OUTCOMES[change.state] ? ` ${OUTCOMES[change.state]}` : "";
    setText(strong, `${change.from === undefined ? "at the start" : levelWords(change.from, dimmable)} → ${levelWords(change.to, dimmable)}${outcome}`);
    row.className = change.state === "failed" ? "is-failed" : "";
    const words = [change.text ?? change.cause ?? change.layer];
    if (change.who) words.push(`by ${change.who}${change.why ? ` (${change.why})` : ""}`);
    if (change.error) words.push(change.error);
    setText(small, words.join(" · "));
  });
  const timer = by === "device" && held ? ` after ${duration(held)}` : "";
  setText(item.hold, by ? `Without the daemon: ${by === "nobody" ? "" : `${levelWords(safe, dimmable)}, by `}${HOLDERS[by] ?? by}${timer}.` : "");
}

function changeRow() {
  return make("li", {}, make("time"), make("span", {}, make("strong"), make("small", { class: "quiet" })));
}
