// The live page: listens to /events, keeps the rows, and shows a step: the newest, or the one that was chosen.
import { Charts, MARKS, short } from "./charts.js";

const $ = (id) => document.getElementById(id);
const make = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
};
const rows = [];
const verdicts = [];  // by place: of the step's row, or null
let spells = [];
let chosen = null;  // a step, or null to follow the newest
let state = {};
let source;
let over = false;
let mark = "";
let waiting = false;

const shown = () => (chosen === null ? rows.length : Math.min(chosen, rows.length));
const charts = new Charts($("charts"), (step) => choose(step));

// One drawing a frame, however many events came; none while nobody looks.
const later = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
};

const draw = () => {
  $("nothing").hidden = rows.length > 0;
  charts.draw(rows, spells, shown());
  tellSteps();
  tellVerdicts();
  tellState();
  if (rows.length) wantSamples(shown());
  $("board").dataset.steps = rows.length;
};

// -- which step ------------------------------------------------------------------------------------------------------

const choose = (step) => {
  chosen = step === null || !rows.length ? null : Math.max(1, Math.min(rows.length, step));
  later();
};

const tellSteps = () => {
  const range = $("step");
  $("steps").hidden = !rows.length;
  range.max = Math.max(1, rows.length);
  range.value = shown() || 1;
  $("back").disabled = shown() <= 1;
  $("on").disabled = shown() >= rows.length;
  $("follow").setAttribute("aria-pressed", String(chosen === null));
  $("shown").textContent = rows.length ? `of step ${shown()}` : "";
  $("figures-of").textContent = rows.length ? `of step ${shown()}` : "";
  if ($("figures").open) tellFigures();
};

const tellFigures = () => {
  const row = rows[shown() - 1] ?? {};
  $("figures-body").replaceChildren(...Object.entries(row).map(([name, value]) => {
    const line = make("tr");
    const head = make("th", "", name);
    head.scope = "row";
    line.append(head, make("td", "", typeof value === "number" || value === null ? short(value) : String(value)));
    return line;
  }));
};

$("back").addEventListener("click", () => choose(shown() - 1));
$("on").addEventListener("click", () => choose(shown() + 1));
$("follow").addEventListener("click", () => choose(chosen === null ? shown() : null));
$("step").addEventListener("input", () => choose(Number($("step").value)));
$("figures").addEventListener("toggle", tellFigures);
$("help").addEventListener("click", () => $("keys").showModal());

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.target.closest?.("input, select, textarea")) return;
  const next = (by) => {
    const firsts = spells.map((spell) => spell.first);
    const found = by > 0 ? firsts.find((step) => step > shown()) : firsts.filter((step) => step < shown()).at(-1);
    if (found) choose(found);
  };
  const keys = {
    ArrowLeft: () => choose(shown() - 1), ArrowRight: () => choose(shown() + 1), Home: () => choose(1),
    End: () => choose(null), v: () => next(1), V: () => next(-1), "?": () => $("keys").showModal(),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

// -- verdicts --------------------------------------------------------------------------------------------------------

// Verdicts of the same kind on end are one spell, told as it was first put and as it is put now.
const spellsOf = () => {
  const found = [];
  verdicts.forEach((verdict, at) => {
    if (!verdict) return;
    const last = found.at(-1);
    if (last && last.action === verdict.action && last.last === at) Object.assign(last, { last: at + 1, latest: verdict.reason });
    else found.push({ ...verdict, first: at + 1, last: at + 1, latest: verdict.reason });
  });
  return found;
};

const tellVerdicts = () => {
  const list = $("verdicts");
  const told = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const wanted = [...spells].reverse().map((spell) => {
    const key = `${spell.first} ${spell.action} ${spell.reason}`;
    const item = told.get(key) ?? verdictItem(spell, key);
    item.querySelector(".span").textContent = spell.last > spell.first ? `steps ${spell.first} to ${spell.last}` : `step ${spell.first}`;
    const latest = item.querySelector(".latest");
    latest.textContent = spell.latest === spell.reason ? "" : `At step ${spell.last}: ${spell.latest}`;
    const current = spell.first <= shown() && shown() <= spell.last;
    item.firstChild.toggleAttribute("aria-current", current);
    return item;
  });
  if (wanted.length !== list.children.length || wanted.some((item, at) => item !== list.children[at])) list.replaceChildren(...wanted);
  $("no-verdicts").hidden = wanted.length > 0;
};

const verdictItem = (spell, key) => {
  const item = make("li");
  item.dataset.key = key;
  const { sign, tone, word } = MARKS[spell.action] ?? { sign: "▲", tone: "warn", word: spell.action };
  const button = make("button");
  button.type = "button";
  button.dataset.tone = tone;
  const head = make("span", "head", `${sign} ${word}, `);
  head.append(make("span", "span"));
  button.append(head, make("span", "", spell.reason), make("span", "latest"));
  if (spell.example) button.append(make("q", "", spell.example.length > 160 ? `${spell.example.slice(0, 160)}…` : spell.example));
  button.addEventListener("click", () => choose(spell.first));
  item.append(button);
  return item;
};

// -- samples ---------------------------------------------------------------------------------------------------------

const kept = new Map();  // by step; emptied when the run began anew
let asked = 0;  // the step that is on the screen or on its way
let fetching = false;
let again = null;
const PAUSE = 1500;  // between two sets of samples that nobody chose: time to read a line

const wantSamples = (step) => {
  if (step === asked) return;
  if (kept.has(step)) { asked = step; showSamples(kept.get(step)); return; }
  if (fetching || again) return;  // looked at once more when that one is there
  fetchSamples(step);
};

const fetchSamples = async (step) => {
  fetching = true;
  asked = step;
  const anew = rows[step - 1];
  try {
    const answer = await fetch(`/samples/${step}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const found = await answer.json();
    if (kept.size > 200) kept.clear();
    if (rows[step - 1] === anew) kept.set(step, found);
    if (step === asked) showSamples(found);
  } catch {
    asked = 0;  // tried again with the next step, or the next choice
  }
  fetching = false;
  const pause = () => { again = null; if (rows.length && shown() !== asked) wantSamples(shown()); };
  if (chosen === null) again = setTimeout(pause, PAUSE);
  else if (shown() !== step && asked) pause();
};

const ENDS = { eos: "ended itself", length: "cut by the limit", given: "given" };

const showSamples = (found) => {
  const cards = found.map((sample) => {
    const card = make("article", "sample");
    const head = make("header");
    head.append(make("b", "", short(sample.score)), make("span", "", sample.pick),
                make("span", "", `${sample.tokens} tokens, ${ENDS[sample.stop] ?? sample.stop}`));
    const question = make("p", "asked", sample.prompt);
    const answer = sample.text.trim() ? make("p", "answer", sample.text) : make("p", "answer muted", "(empty)");
    for (const part of [question, answer]) part.tabIndex = 0;  // long ones scroll, by keyboard too
    card.append(head, question, answer);
    const parts = Object.entries(sample.parts ?? {});
    if (parts.length) {
      const list = make("dl");
      for (const [name, value] of parts) {
        const pair = make("div");
        pair.append(make("dt", "", name), make("dd", "", short(value)));
        list.append(pair);
      }
      card.append(list);
    }
    if (sample.why) card.append(make("p", "why", sample.why));
    return card;
  });
  $("samples").replaceChildren(...(cards.length ? cards : [make("p", "muted small", "No samples were kept of this step.")]));
  $("samples").dataset.step = asked;
};

// -- the run's state -------------------------------------------------------------------------------------------------

const span = (seconds) => {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
};

const STATES = {
  running: ["Running", ""], done: ["Done", "good"], failed: ["Failed", "bad"], interrupted: ["Interrupted", "warn"],
};

let lost = false;

const tellState = () => {
  if (!state.status) return;
  let [word, tone] = STATES[state.status] ?? [state.status, ""];
  let note = "";
  const pace = state.seconds_a_step;
  const running = state.status === "running";
  if (running && !rows.length) word = "Starting";
  if (running && state.quiet > Math.max(60, 10 * (pace ?? 0))) {
    [word, tone] = ["Quiet", "warn"];
    note = `No step for ${span(state.quiet)}. A run that was killed looks like this too; accord align --resume goes on with it.`;
  }
  if (!running) {
    note = [state.end, state.reason].filter(Boolean).join(": ");
    note = note.charAt(0).toUpperCase() + note.slice(1);
  }
  if (state.end?.startsWith("rolled back")) {
    [word, tone] = ["Rolled back", "bad"];
    note += `. The model has the weights after ${state.kept} updates.`;
  }
  if (state.problem) [tone, note] = ["warn", state.problem];
  if (lost) [word, tone, note] = ["No connection", "warn", "The page's server does not answer; trying again. What is shown stays."];
  if (over && running) [word, tone, note] = ["Not served any more", "warn", "The page's server has ended. What is shown stays."];
  $("status").textContent = word;
  $("status").dataset.tone = tone;
  $("word").hidden = !note;
  $("word").textContent = note;
  $("word").className = `notice ${tone}`;
  const steps = state.steps || rows.at(-1)?.steps || 0;
  $("progress").max = steps || 1;
  $("progress").value = rows.length;
  $("count").textContent = rows.length ? `step ${rows.length}${steps ? ` of ${steps}` : ""}` : "no step yet";
  const left = running && !lost && !over && pace ? pace * (steps - rows.length) : 0;
  $("left").textContent = left > 0 ? `about ${span(left)} left` : "";
  document.title = `${rows.length}${steps ? `/${steps}` : ""} ${$("board").dataset.run} · accord`;
  $("board").dataset.status = over ? "over" : lost ? "lost" : state.status;
};

// -- events ----------------------------------------------------------------------------------------------------------

const listen = () => {
  source = new EventSource(`/events${mark ? `?after=${encodeURIComponent(mark)}` : ""}`);
  source.addEventListener("steps", (event) => {
    const told = JSON.parse(event.data);
    if (told.from < rows.length) {
      kept.clear();
      asked = 0;
    }
    rows.length = verdicts.length = Math.min(told.from, rows.length);
    for (const { row, verdict } of told.steps) { rows.push(row); verdicts.push(verdict); }
    spells = spellsOf();
    mark = event.lastEventId || mark;
    lost = false;
    later();
  });
  source.addEventListener("state", (event) => {
    state = JSON.parse(event.data);
    lost = false;
    later();
  });
  source.addEventListener("bye", () => {
    over = true;
    source.close();
    later();
  });
  source.addEventListener("error", () => {
    lost = true;
    later();
    if (source.readyState === EventSource.CLOSED && !over) setTimeout(listen, 3000);
  });
};

listen();
