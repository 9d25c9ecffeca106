// Meters and their files: what is being imported, which days there are, what became of the last files.

import { bytes, count, make, plural, setProse, setText, when } from "./format.js";

const FILES_SHOWN = 6;
const CHANNELS_SHOWN = 40;
const MARK = { completed: "✓ ", failed: "✕ ", processing: "… ", pending: "… " };
const SEVERITY = { completed: "info", failed: "alarm", processing: "info", pending: "info" };
const byId = (id) => document.getElementById(id);

export class MeterPanel {
  constructor(get) {
    this.get = get;
    this.seen = null;
    this.meters = [];
  }

  // A status has come: the imports that run are in it; when one has ended the lists are asked for again.
  heard(status) {
    const files = status.meter_files;
    if (!files) {
      byId("meters-section").hidden = true;
      return;
    }
    this.showImports(files.importing);
    const key = `${status.started} ${files.ended}`;
    if (key !== this.seen) {
      this.seen = key;
      this.load();
    }
  }

  async load() {
    const [files, meters] = await Promise.all([
      this.get(`/api/v1/files?limit=${FILES_SHOWN}`), this.get("/api/v1/meters"),
    ]);
    if (!files || !meters) {
      this.seen = null;
      return;
    }
    byId("meters-section").hidden = !files.files.length && !meters.meters.length;
    byId("files").replaceChildren(...files.files.map(fileItem));
    showMeters(meters.meters);
  }

  showImports(imports) {
    const list = byId("importing");
    if (imports.length) byId("meters-section").hidden = false;
    while (list.childElementCount > imports.length) list.lastElementChild.remove();
    imports.forEach((one, number) => {
      const item = list.children[number] ?? list.appendChild(importItem());
      const [name, words, bar] = item.children;
      setText(name, one.name);
      setText(words, `${bytes(one.done_bytes)} read, ${plural(one.days + one.reads, "row")}`);
      // What is packed in a zip is more than the zip: then the bar only shows that it goes on.
      if (one.done_bytes <= one.size_bytes) {
        bar.max = Math.max(1, one.size_bytes);
        bar.value = one.done_bytes;
      } else {
        bar.removeAttribute("value");
      }
    });
  }
}

function importItem() {
  return make("li", {}, make("span"), make("span", { class: "quiet" }), make("progress", { "aria-label": "imported" }));
}

function showMeters(meters) {
  const channels = meters.flatMap((meter) => meter.channels.map((channel) => [meter.nmi, channel]));
  const reads = meters.flatMap((meter) => meter.reads.map((read) => [meter.nmi, read]));
  const parts = [plural(meters.length, "meter"), plural(channels.length, "channel")];
  if (reads.length) parts.push(plural(reads.length, "read"));
  setText(byId("meters-sum"), parts.join(", "));
  byId("channels").replaceChildren(...channels.slice(0, CHANNELS_SHOWN).map(([nmi, channel]) => channelItem(nmi, channel)));
}

// A channel's days; the bar is full where none is missing between the first and the last.
function channelItem(nmi, channel) {
  const words = [`${channel.first} to ${channel.last}`, plural(channel.days, "day")];
  if (channel.missing) words.push(`${count(channel.missing)} missing`);
  const bar = make("progress", { max: channel.days + channel.missing, "aria-label": "days that are there" });
  bar.value = channel.days;
  const unit = channel.unit ? `, ${channel.unit}` : "";
  return make(
    "li", {}, make("span", {}, `${nmi} ${channel.suffix}${unit}`), make("span", { class: "quiet" }, words.join(" · ")), bar,
  );
}

function fileItem(file) {
  const words = [];
  if (file.error) words.push(file.error);
  if (file.values) words.push(plural(file.values, "value"));
  if (file.reads) words.push(plural(file.reads, "read"));
  if (file.problems) words.push(plural(file.problems, "problem"));
  const more = make("small", { class: "quiet" });
  setProse(more, words.join(" · "));
  const at = file.ended ?? file.received;
  const severity = file.state === "completed" && file.problems ? "warning" : SEVERITY[file.state];
  return make(
    "li", { class: `is-${severity}` },
    make("time", { datetime: at }, when(new Date(at))),
    make("span", { class: "what" }, make("strong", {}, `${MARK[file.state] ?? ""}${file.state}`), ` ${file.name}`, more),
  );
}
