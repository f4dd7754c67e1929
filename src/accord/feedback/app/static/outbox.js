// What must not be lost: drafts, and a journal of everything submitted, in this browser's localStorage.
//
// Each submission is written here before it is sent, under the key that the server knows it by. It waits
// until the server says it is stored, however often it must be sent: the key makes a second arrival harmless.
// On load the server is asked which of the journal's keys it has; what it lacks is sent again.
// One localStorage item an entry, so that two tabs never overwrite each other's.

const KEEP = 200; // stored entries kept for that question; waiting ones are never dropped
const RETRY = [1000, 2000, 4000, 8000, 15000, 30000]; // milliseconds
const DRAFT_AGE = 30 * 24 * 3600 * 1000;

/** A key no other submission has. (crypto.randomUUID exists only on https and localhost.) */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** POST JSON. Returns { status, body }; status 0 where no answer came. */
export async function post(url, body, { keepalive = false } = {}) {
  const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(body),
      keepalive,
    });
    return { status: answer.status, body: await answer.json().catch(() => ({})) };
  } catch {
    return { status: 0, body: {} };
  }
}

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** Whether the browser kept it: private windows and full disks refuse. */
function write(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function names(prefix) {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

export class Outbox {
  /** `changed(summary)` after each change; `stored(entry, answer)` and `refused(entry)` once the server has spoken. */
  constructor(labeler, { changed = () => {}, stored = () => {}, refused = () => {} } = {}) {
    this.prefix = `accord:sent:${labeler}:`;
    this.changed = changed;
    this.stored = stored;
    this.refused = refused;
    this.memory = new Map(); // entries the browser refused to keep
    this.tries = 0;
    this.reason = "";
    addEventListener("online", () => this.flush());
    addEventListener("storage", (event) => event.key?.startsWith(this.prefix) && this.tell());
  }

  entries() {
    const kept = names(this.prefix).map(read).filter((entry) => entry?.key);
    return [...kept, ...this.memory.values()].sort((a, b) => a.at - b.at);
  }

  get(key) {
    return this.memory.get(key) ?? read(this.prefix + key);
  }

  save(entry) {
    if (write(this.prefix + entry.key, entry)) this.memory.delete(entry.key);
    else this.memory.set(entry.key, entry);
    this.tell();
  }

  drop(key) {
    this.memory.delete(key);
    try {
      localStorage.removeItem(this.prefix + key);
    } catch {
      // nothing was kept there, then
    }
    this.tell();
  }

  tell() {
    const all = this.entries();
    const of = (state) => all.filter((entry) => entry.state === state);
    this.changed({
      waiting: of("waiting").length,
      refused: of("refused"),
      reason: this.reason,
      kept: !this.memory.size,
      dismiss: (key) => this.drop(key),
    });
  }

  /** Write down and send one submission. Resolves to "stored", "waiting" or "refused" after the first try. */
  async send(entry) {
    this.save({ ...entry, at: Date.now(), state: "waiting" });
    await this.flush();
    return this.get(entry.key)?.state ?? "stored";
  }

  /** Send what waits, oldest first; one flush at a time. */
  flush() {
    clearTimeout(this.timer);
    this.running = (this.running ?? Promise.resolve()).then(() => this.pass());
    return this.running;
  }

  async pass() {
    for (const entry of this.entries().filter((one) => one.state === "waiting")) {
      const { status, body } = await post(entry.url, entry.body);
      if (status >= 200 && status < 300 && body.stored) {
        this.tries = 0;
        this.reason = "";
        this.save({ ...entry, state: "stored" });
        this.stored(entry, body);
      } else if (later(status)) {
        this.wait(status);
        return;
      } else {
        const reason = [body.error, body.what_to_do].filter(Boolean).join("; ") || `the server answered ${status}`;
        this.save({ ...entry, state: "refused", reason, link: body.link });
        this.refused(entry);
      }
    }
    this.prune();
  }

  wait(status) {
    this.reason =
      status === 401 || status === 403 ? "signed-out" : status === 0 ? "offline" : status === 429 ? "busy" : "server";
    this.tell();
    this.timer = setTimeout(() => this.flush(), RETRY[Math.min(this.tries, RETRY.length - 1)]);
    this.tries += 1;
  }

  /** Ask which keys of the journal are stored; what is not waits again. Then send what waits. */
  async reconcile() {
    const sent = this.entries().filter((entry) => entry.state === "stored");
    if (sent.length) {
      const { status, body } = await post("/label/stored", { keys: sent.map((entry) => entry.key) });
      if (status === 200) {
        const known = new Set(body.stored);
        for (const entry of sent) if (!known.has(entry.key)) this.save({ ...entry, state: "waiting" });
      }
    }
    this.tell();
    return this.flush();
  }

  prune() {
    const stored = this.entries().filter((entry) => entry.state === "stored");
    for (const entry of stored.slice(0, -KEEP)) this.drop(entry.key);
  }
}

/** Worth another try: no answer, the server's own fault, too many at once, or signed out meanwhile. */
const later = (status) => status === 0 || status >= 500 || [401, 403, 408, 429].includes(status);

export class Drafts {
  /** `said(text)` after each attempt to keep the draft on the server. */
  constructor(labeler, assignment, { revision, said = () => {} }) {
    this.name = `accord:draft:${labeler}:${assignment}`;
    this.url = `/label/${assignment}/draft`;
    this.revision = revision;
    this.said = said;
    forget(`accord:draft:${labeler}:`);
    document.addEventListener("visibilitychange", () => document.hidden && this.push(true));
    addEventListener("pagehide", () => this.push(true));
    addEventListener("online", () => this.push());
  }

  local() {
    return read(this.name);
  }

  /** Keep `draft` here at once, and on the server a moment later. */
  save(draft) {
    this.revision += 1;
    this.draft = draft;
    this.dirty = true;
    const kept = write(this.name, { revision: this.revision, draft, at: Date.now() });
    if (!kept) this.said("This browser keeps no copies; the server does.");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.push(), 500);
  }

  async push(leaving = false) {
    clearTimeout(this.timer);
    if (!this.dirty) return;
    this.dirty = false;
    const sent = this.revision;
    const { status, body } = await post(this.url, { revision: sent, draft: this.draft }, { keepalive: leaving });
    if (status === 200) {
      this.revision = Math.max(this.revision, body.revision);
      this.said("Draft saved.");
      return;
    }
    this.dirty = true;
    this.said(status === 0 ? "Draft saved in this browser; no connection." : "Draft saved in this browser only.");
    if (later(status)) this.timer = setTimeout(() => this.push(), 5000);
  }

  clear() {
    clearTimeout(this.timer);
    this.dirty = false;
    try {
      localStorage.removeItem(this.name);
    } catch {
      // nothing was kept there, then
    }
  }
}

function forget(prefix) {
  for (const name of names(prefix)) {
    const kept = read(name);
    if (!kept || Date.now() - kept.at > DRAFT_AGE) localStorage.removeItem(name);
  }
}
