// The page: one live stream in, everything else follows from it.

import { Cards } from "./cards.js";
import { Detail } from "./detail.js";
import { zone } from "./format.js";
import { MeterPanel } from "./meters.js";
import { Outputs } from "./outputs.js";
import { showConnection, showDevices, showEvents, showStatus } from "./panels.js";
import { Stream } from "./stream.js";

// Of two that tell of one switch only the later is shown.
const EVENTS_ASKED = 24;
const byId = (id) => document.getElementById(id);
const cards = new Cards(byId("cards"), byId("no-values"), (series) => detail.show(series));
const detail = new Detail(cards);
const outputs = new Outputs(byId("outputs"), byId("outputs-section"), byId("outputs-sum"), (series) => detail.show(series));
const meters = new MeterPanel(get);
let connection = "connecting";
let eventsSeen = null;

async function get(path) {
  try {
    const answer = await fetch(path);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function loadDevices() {
  const answer = await get("/api/v1/devices");
  if (answer) placeDevices(answer.devices);
}

function placeDevices(devices) {
  cards.place(devices);
  showDevices(devices);
}

async function loadEvents() {
  const answer = await get(`/api/v1/events?limit=${EVENTS_ASKED}`);
  if (answer) showEvents(answer.events);
}

function heardDevices(devices) {
  showDevices(devices);
  devices.forEach((device) => cards.state(device));
  if (devices.some((device) => !cards.cards.has(device.name))) loadDevices();
}

function heardStatus(status) {
  showStatus(status);
  meters.heard(status);
  // Positions of events only grow: a new head is a new event.
  const head = status.delivery.streams.events?.head ?? status.store.events;
  if (head !== eventsSeen) {
    eventsSeen = head;
    loadEvents();
  }
}

const hear = {
  status: heardStatus,
  devices: (body) => heardDevices(body.devices),
  outputs: (body) => outputs.show(body.outputs),
  gone: (body) => cards.gone(body.series),
  readings: (body) => {
    for (const reading of body.readings) {
      // What outputs do stands in their own panel.
      if (!reading.series.startsWith("output.")) cards.put(reading);
      if (reading.series === detail.series) detail.put(reading);
    }
  },
  all: (body) => {
    placeDevices(body.devices);
    body.devices.flatMap((device) => device.points).filter((point) => point.quality).forEach((point) => cards.put(point));
  },
};

const stream = new Stream({
  message: (kind, body) => hear[kind](body),
  state: (state, since) => {
    if (state === "live" && connection === "lost") cards.refill();
    if (state !== connection) showConnection(state, since);
    connection = state;
  },
});

// A small screen begins with what a keeper looks at; the rest is a touch away.
const small = matchMedia("(max-width: 640px)");
function fold() {
  for (const part of document.querySelectorAll("details.fold")) part.open = !small.matches;
}
small.addEventListener("change", fold);
fold();
byId("more-events").addEventListener("click", () => byId("events").classList.add("is-whole"));

byId("zone").textContent = zone();
setInterval(() => cards.tick(), 1000);
await loadDevices();
stream.open();
detail.fromAddress();
