// The live stream: reconnects by itself, notices silence, and asks now and then where no stream is to be had.

const SILENCE_MS = 6000;
const RETRY_MS = 2000;
const RETRY_MAX_MS = 15000;
const HIDDEN_MS = 30000;

// Calls on.message(kind, body), on.state("live" | "asking" | "lost", since).
export class Stream {
  constructor(on) {
    this.on = on;
    this.source = null;
    this.lostSince = null;
    this.pause = RETRY_MS;
    this.timer = null;
    this.hiddenTimer = null;
    document.addEventListener("visibilitychange", () => this.seen());
    window.addEventListener("online", () => this.again());
  }

  open() {
    clearTimeout(this.timer);
    this.source?.close();
    const source = new EventSource("/api/v1/live");
    this.source = source;
    for (const kind of ["status", "devices", "outputs", "readings", "gone"]) {
      source.addEventListener(kind, (event) => this.heard(kind, JSON.parse(event.data)));
    }
    source.addEventListener("error", () => {
      if (source === this.source) this.failed();
    });
    this.watch();
  }

  heard(kind, body) {
    this.lostSince = null;
    this.pause = RETRY_MS;
    this.on.state("live", null);
    this.on.message(kind, body);
    this.watch();
  }

  watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.failed(), SILENCE_MS);
  }

  async failed() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    const busy = await this.ask();
    if (document.hidden || this.source) return;
    if (!busy) {
      this.lostSince ??= new Date();
      this.on.state("lost", this.lostSince);
    }
    this.timer = setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(RETRY_MAX_MS, this.pause * 1.5);
  }

  // All streams may be taken while the site is well: then asking has to do.
  async ask() {
    try {
      const signal = AbortSignal.timeout(4000);
      const [status, devices, outputs] = await Promise.all(
        ["/api/v1/status", "/api/v1/devices", "/api/v1/outputs"].map((path) => fetch(path, { signal, cache: "no-store" })),
      );
      if (!status.ok || !devices.ok || !outputs.ok) return false;
      this.on.message("all", await devices.json());
      this.on.message("outputs", await outputs.json());
      this.on.message("status", await status.json());
      this.lostSince = null;
      this.on.state("asking", null);
      return true;
    } catch {
      return false;
    }
  }

  again() {
    if (!this.source) this.open();
  }

  // A page that nobody looks at gives its stream back.
  seen() {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) {
      this.hiddenTimer = setTimeout(() => {
        clearTimeout(this.timer);
        this.source?.close();
        this.source = null;
      }, HIDDEN_MS);
    } else {
      this.again();
    }
  }
}
