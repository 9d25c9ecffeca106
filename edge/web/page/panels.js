// Everything on the page that comes out of the status, the devices and the events.

import { bytes, count, duration, make, plural, setProse, setText, timeOfDay, when } from "./format.js";
import { levelWords, OUTCOMES } from "./outputs.js";

const HEALTH = { ok: "✓ All is well", degraded: "! Needs attention", failing: "✕ Failing" };
const CLOCK = {
  synced: "synced",
  holdover: "running on its own since it was last set",
  unknown: "not set: times are a guess until it is",
};
const STREAMS = {
  readings: "Readings", summaries: "Summaries", events: "Events", channel_days: "Meter days",
  register_reads: "Meter reads", meta: "Site description",
};
const EVENTS_SHOWN = 12;
const byId = (id) => document.getElementById(id);

function details(list, pairs) {
  // Nodes are kept, so that a selection or a screen reader's place in them survives the next second.
  const rows = pairs.filter((pair) => pair !== null);
  while (list.childElementCount > rows.length) list.lastElementChild.remove();
  while (list.childElementCount < rows.length) list.append(make("div", {}, make("dt"), make("dd")));
  rows.forEach(([name, value, kind], number) => {
    const row = list.children[number];
    setText(row.firstElementChild, name);
    setText(row.lastElementChild, value);
    row.className = kind ?? "";
  });
}

export function showStatus(status) {
  setText(byId("site"), status.site);
  document.title = status.health === "ok" ? status.site : `${status.health === "failing" ? "✕" : "!"} ${status.site}`;
  setText(byId("health"), HEALTH[status.health] ?? status.health);
  byId("health").className = `health is-${status.health}`;
  showProblems(status.problems);
  showFacts(status);
  showDelivery(status.delivery);
  showStore(status.store);
  showAbout(status);
}

function showProblems(problems) {
  const list = byId("problem-list");
  byId("problems").hidden = !problems.length;
  while (list.childElementCount > problems.length) list.lastElementChild.remove();
  while (list.childElementCount < problems.length) list.append(make("li"));
  problems.forEach((problem, number) => setProse(list.children[number], problem));
}

function waiting(delivery) {
  return Object.values(delivery.streams).reduce((sum, stream) => sum + stream.backlog, 0);
}

function oldest(delivery) {
  return Math.max(0, ...Object.values(delivery.streams).map((stream) => stream.oldest_unsent_age_s ?? 0));
}

function showFacts({ devices, store, delivery, clock }) {
  const active = devices.total - devices.disabled;
  const rest = waiting(delivery);
  details(byId("facts"), [
    ["Devices up", `${devices.up} of ${active}`, devices.up < active ? "is-warning" : ""],
    ["Stored since start", count(store.stored_total)],
    ["Undelivered", delivery.enabled ? count(rest) : "switched off", deliveryMood(delivery)],
    ["Clock", clock.state, clock.state === "unknown" ? "is-warning" : ""],
  ]);
}

function deliveryMood(delivery) {
  if (!delivery.enabled) return "";
  return delivery.advice || delivery.state !== "connected" ? "is-warning" : "";
}

function deliveryWords(delivery) {
  if (!delivery.enabled) return ["is-off", "Switched off. Everything is kept here."];
  const rest = waiting(delivery);
  if (delivery.state !== "connected") {
    const why = delivery.why || `no connection to ${delivery.broker} yet`;
    return ["is-warning", `Not connected: ${why}${/[.?!]$/.test(why) ? "" : "."} It tries again; everything is kept here.`];
  }
  if (!delivery.bound) return ["is-warning", `Connected to ${delivery.broker}. Nothing counts as delivered yet.`];
  if (!rest) return ["is-ok", `Connected to ${delivery.broker}. Everything that is stored here is in Postgres.`];
  const age = oldest(delivery);
  return ["is-ok", `Connected to ${delivery.broker}. ${plural(rest, "record")} on the way, the oldest ${duration(age)} old.`];
}

function showDelivery(delivery) {
  const [sentence, advice, more] = byId("delivery").children;
  const [, streams, list] = more.children;
  const [mood, words] = deliveryWords(delivery);
  sentence.className = `sentence ${mood}`;
  setProse(sentence, words);
  setProse(advice, delivery.advice);
  advice.hidden = !delivery.advice;
  more.hidden = !delivery.enabled;
  if (!delivery.enabled) return;
  const used = (name) => name in delivery.streams && (name === "readings" || delivery.streams[name].head);
  const known = Object.keys(STREAMS).filter(used);
  for (const name of new Set([...known, ...Object.keys(delivery.streams).filter(used)])) {
    showStream(streams, name, delivery.streams[name]);
  }
  const answered = delivery.last_answer ? when(new Date(delivery.last_answer)) : "never";
  details(list, [
    ["Ledger", delivery.bound ? delivery.ledger : delivery.candidate ? `${delivery.candidate} offers itself` : "none yet"],
    ["Last answer from upstream", answered],
    delivery.in_flight ? ["Batches under way", count(delivery.in_flight)] : null,
    delivery.eta_s ? ["Time to drain", `${duration(delivery.eta_s)}, at ${count(delivery.rows_s)} rows a second`] : null,
  ]);
}

function showStream(parent, name, stream) {
  let item = [...parent.children].find((child) => child.dataset.stream === name);
  if (!item) {
    const bar = make("progress", { max: 1, "aria-label": `${STREAMS[name] ?? name} delivered` });
    item = make("li", { "data-stream": name }, make("span"), make("span", { class: "quiet" }), bar);
    parent.append(item);
  }
  const [title, words, bar] = item.children;
  setText(title, STREAMS[name] ?? name);
  const parts = [`${count(stream.settled)} of ${count(stream.head)} delivered`];
  if (stream.backlog) parts.push(`${count(stream.backlog)} waiting`);
  if (stream.oldest_unsent_age_s) parts.push(`oldest ${duration(stream.oldest_unsent_age_s)}`);
  if (stream.holes) parts.push(`${count(stream.holes)} will never come`);
  if (stream.refused) parts.push(`${count(stream.refused)} refused`);
  setText(words, parts.join(" · "));
  bar.value = stream.head ? stream.settled / stream.head : 1;
}

function showStore(store) {
  const dropped = Object.entries(store.dropped).filter(([, number]) => number);
  details(byId("store"), [
    ["File", store.path],
    ["Size", `${bytes(store.bytes)}, ${bytes(store.disk_free_bytes)} free on the disk`],
    ["Kept here", `${plural(store.readings, "reading")}, ${plural(store.events, "event")}`],
    ["Last commit", store.last_commit ? when(new Date(store.last_commit)) : "none yet"],
    ["A power cut can lose", `at most the last ${store.flush_interval_s} s`],
    ["Written by tidewatt", `${bytes(store.bytes_written)} since the start${aDay(store.bytes_written_day)}`],
    othersDay(store) === null ? null : ["By other programs", `${bytes(othersDay(store))} a day to the same disk`],
    store.on_card ? ["The card lasts", cardWords(store)] : null,
    dropped.length
      ? ["Not stored", dropped.map(([reason, number]) => `${count(number)} (${reason})`).join(", "), "is-warning"]
      : null,
  ]);
}

function aDay(number) {
  return number === null ? "" : `, ${bytes(number)} a day`;
}

function othersDay({ disk_written_day_bytes: all, bytes_written_day: own }) {
  return all === null || own === null ? null : Math.max(0, all - own);
}

function cardWords({ card_life_years: years, disk_written_day_bytes: all }) {
  if (all === null) return "told after an hour of measuring";
  if (years === null || years > 50) return "over 50 years at these rates";
  return `about ${plural(years, "year")} at these rates`;
}

function showAbout({ clock, version, uptime_s: uptime, started, config }) {
  details(byId("about"), [
    ["Clock", `${CLOCK[clock.state] ?? clock.state}`, clock.state === "unknown" ? "is-warning" : ""],
    ["Site's time", when(new Date(clock.now))],
    ["Running for", `${duration(uptime)}, since ${when(new Date(started))}`],
    ["Version", version],
    ["Config", config.path],
    config.error ? ["Config refused", config.error, "is-warning"] : null,
  ]);
}

const STATE_WORDS = {
  up: "✓ up", failing: "✕ failing", parked: "⏸ parked", disabled: "switched off", starting: "starting",
  stuck: "✕ stuck",
};

export function showDevices(devices) {
  const body = byId("devices");
  while (body.childElementCount > devices.length) body.lastElementChild.remove();
  devices.forEach((device, number) => {
    const row = body.children[number] ?? body.appendChild(deviceRow());
    const [name, state, every, polls, errors, last] = row.children;
    setText(name.firstElementChild, device.name);
    const bus = device.bus && device.bus !== device.driver ? ` on ${device.bus}` : "";
    setText(name.lastElementChild, device.driver + bus);
    setText(state, STATE_WORDS[device.state] ?? device.state);
    state.className = `state is-${device.state}`;
    setText(every, duration(device.interval_s));
    setText(polls, count(device.polls));
    setText(errors, count(device.errors));
    setProse(last, lastError(device));
    row.className = device.last_error ? "has-error" : "";
  });
}

function deviceRow() {
  const cell = (label, kind = "") => make("td", { "data-label": label, class: kind, role: "cell" });
  const name = make("th", { scope: "row", role: "rowheader" }, make("span"), make("small", { class: "quiet" }));
  return make(
    "tr", { role: "row" },
    name, cell("State"), cell("Every", "number"), cell("Polls", "number"), cell("Errors", "number"), cell("Last error"),
  );
}

function lastError({ last_error: words, last_error_at: at, next_retry_s: retry, state }) {
  if (!words) return "";
  const since = at ? ` (${when(new Date(at))}` : " (";
  if (state === "up") return `${words}${since}, answers again)`;
  return `${words}${since}${retry ? `, next try in ${duration(retry)}` : ""})`;
}

export function showEvents(events) {
  const list = byId("events");
  byId("no-events").hidden = events.length > 0;
  setText(byId("no-events"), "None yet.");
  list.replaceChildren(...onceEach(events).slice(0, EVENTS_SHOWN).map(eventItem));
}

// What is known by its content has a name in the body.
const shown = (subject) => (/^[0-9a-f]{64}$/.test(subject) ? `${subject.slice(0, 8)}…` : subject);
const SEVERITY = { info: "", warning: "! ", alarm: "✕ " };
const SWITCHED = "output";
// For programs: they join records by these.
const MACHINE = new Set(["change", "hash", "id", "uid", "old", "new"]);
// Values that need no name before them.
const PLAIN = new Set(["text", "error", "name"]);

// A switch is told as pending and again when it is done; a person wants it once, as it ended.
function onceEach(events) {
  const seen = new Set();
  return events.filter(({ kind, body }) => {
    const change = kind === SWITCHED ? body?.change : null;
    if (!change) return true;
    const first = !seen.has(change);
    seen.add(change);
    return first;
  });
}

function switchWords({ from, to, text, cause, layer, who, why, error, state }) {
  const words = [`${from === undefined || from === null ? "at the start" : level(from)} → ${level(to)}`];
  if (OUTCOMES[state]) words.push(OUTCOMES[state]);
  words.push(text ?? cause ?? layer, by(who, why), error);
  return words.filter(Boolean).join(" · ");
}

const level = (value) => levelWords(value, value > 0 && value < 1);
const by = (who, why) => (who ? `by ${who}${why ? ` (${why})` : ""}` : "");

// As `tidewatt events` says it: what is over reads as over, and no advice with it.
function bodyWords(body) {
  const { ended, still, text, who, why } = body;
  if (ended === true) return still ? `not over: ${still}` : `over: ${text ?? ""}`;
  const rest = Object.entries(body).filter(([name]) => !MACHINE.has(name) && !(who && (name === "who" || name === "why")));
  return [...rest.map(([name, value]) => bodyWord(name, value)), by(who, why)].filter(Boolean).join(" · ");
}

function bodyWord(name, value) {
  if (value === null || value === false || value === "") return "";
  const words = name.replaceAll("_", " ");
  if (value === true) return words;
  if (PLAIN.has(name) && typeof value !== "object") return value;
  if (name === "level") return level(value);
  if (/_m?s$/.test(name) && typeof value === "number") {
    const seconds = value / (name.endsWith("_ms") ? 1000 : 1);
    const length = `${seconds < 0 ? "−" : ""}${duration(Math.abs(seconds))}`;
    return seconds ? `${words.replace(/ m?s$/, "")} ${length}` : "";
  }
  if (Array.isArray(value)) return value.length ? `${words}: ${value.map((one) => (Array.isArray(one) ? one.join(" → ") : one)).join(", ")}` : "";
  return typeof value === "object" ? "" : `${words}: ${value}`;
}

function eventItem({ ts, kind, subject, severity, body }) {
  const words = kind === SWITCHED ? switchWords(body ?? {}) : bodyWords(body ?? {});
  const title = kind === SWITCHED ? "switched" : kind.replaceAll("-", " ");
  const more = make("small", { class: "quiet" });
  setProse(more, words);
  return make(
    "li", { class: `is-${severity}` },
    make("time", { datetime: ts }, when(new Date(ts))),
    make("span", { class: "what" },
      make("strong", {}, `${SEVERITY[severity] ?? ""}${title}`), subject ? ` ${shown(subject)}` : "",
      words ? more : null),
  );
}

export function showConnection(state, since) {
  const lost = byId("lost");
  document.body.classList.toggle("is-lost", state === "lost");
  lost.hidden = state !== "lost";
  if (state === "lost") {
    setText(lost, `Connection lost since ${timeOfDay(since)}. What stands here is old. Trying again…`);
    setText(byId("connection"), "○ No connection");
    setText(byId("health"), "? Not known now");
    byId("health").className = "health is-unknown";
  } else {
    setText(byId("connection"), state === "live" ? "● Live" : "◐ Every few seconds: all live streams are taken");
  }
  byId("connection").className = `connection is-${state}`;
}

