// The task page: keys, buttons and drags become moves of state.js; every move is drawn, said and kept.
import { Drafts, Outbox, newKey, post } from "./outbox.js";
import { Dialogs } from "./dialogs.js";
import { keyHandler } from "./keys.js";
import { showNet } from "./net.js";
import * as moves from "./state.js";

const { FAIL } = moves;
const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const { protocol, shown, assignment, labeler } = facts;
const cards = [...document.querySelectorAll(".answer")];
const base = `/label/${assignment}`;

const outbox = new Outbox(labeler, { changed: showNet, stored: arrived, refused: returned });
const drafts = new Drafts(labeler, assignment, {
  revision: facts.draft_revision,
  said: (text) => ($("draft-line").textContent = text),
});
const clock = stopwatch();
let { state, key, seconds } = opened();
let current = cards[0];
let sent = false;

// -- opening --------------------------------------------------------------------------------------------

/** Where this task stands: the newer of the two drafts, else the answer that was taken back, else untouched. */
function opened() {
  const here = drafts.local();
  const newer = here && here.revision >= facts.draft_revision ? here.draft : facts.draft;
  if (here) drafts.revision = Math.max(drafts.revision, here.revision);
  // a draft from before the answer that was taken back is older than that answer, and its key is spent
  const draft = newer?.revises === facts.revises ? newer : null;
  return {
    state: moves.restore(shown, draft?.state) ?? answered(newer) ?? moves.start(shown),
    key: draft?.key ?? newKey(),
    seconds: draft?.seconds ?? 0,
  };
}

function answered(old) {
  if (!facts.revises) return null;
  if (protocol === "thumb" || protocol === "edit") return moves.restore(shown, old?.state);
  return moves.fromAnswer(shown, facts.answer, protocol);
}

/** Seconds with the page in sight since the last reading. */
function stopwatch() {
  let since = performance.now();
  let sum = 0;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) sum += performance.now() - since;
    since = performance.now();
  });
  return () => (sum + (document.hidden ? 0 : performance.now() - since)) / 1000;
}

const spent = () => Math.round((seconds + clock()) * 10) / 10;

// -- moves ----------------------------------------------------------------------------------------------

/** Take a new state: draw it, keep it, say what happened. */
function become(next, said) {
  if (sent) return say("This answer is on its way; take it back once it is stored.");
  if (next !== state) {
    state = next;
    keep();
    draw();
  }
  if (said) say(said);
}

const keep = () => drafts.save({ state: moves.draftOf(state), key, seconds: spent(), revises: facts.revises });

/** Put a completion into a lane: a tier's number, "fail", "tray"; for thumbs "good", "bad", "tray". */
function move(id, lane) {
  const name = moves.letter(state, id);
  if (protocol === "thumb") {
    const up = lane === "tray" ? null : lane === "good";
    become(moves.thumb(state, id, up), `Answer ${name}: ${up === null ? "not judged" : lane}. ${rest()}`);
    return;
  }
  const to = lane === "tray" ? null : lane === FAIL ? FAIL : Number(lane);
  if (to > shown.length) return say(`There are ${shown.length} answers, so tiers go from 1 to ${shown.length}.`);
  const next = moves.place(state, id, to);
  become(next, `Answer ${name} ${where(next, id)}. ${rest(next)}`);
}

function insert(id, tier) {
  if (tier > shown.length) return;
  const next = moves.insert(state, id, tier);
  become(next, `Answer ${moves.letter(next, id)} ${where(next, id)}, the rest moved down. ${rest(next)}`);
}

function where(from, id) {
  const at = from.places[id];
  if (at === undefined) return "unranked";
  if (at === FAIL) return "fails";
  const tied = shown.filter((one) => one !== id && from.places[one] === at).map((one) => moves.letter(from, one));
  return `on tier ${at}${tied.length ? `, tied with ${tied.join(", ")}` : ""}`;
}

const rest = (from = state) => moves.missing(from, facts) || "Ready to submit.";

function choose(value) {
  become(moves.choose(state, value), document.querySelector(`#scale [value="${value}"]`).ariaLabel ?? "Both fail");
}

function startFrom(id) {
  if (state.edited && state.editedOf !== id && state.edited !== facts.texts[state.editedOf]) {
    if (!confirm("Replace what you wrote by a copy of this answer? Undo brings it back.")) return;
  }
  become(moves.edit(state, facts.texts[id], id), `A copy of answer ${moves.letter(state, id)} is in the text field.`);
  $("better").focus();
}

async function back() {
  if (sent) return say("Wait until the answer is stored; then take it back.");
  if (facts.revises && !state.past.length) return say("This is the answer you took back.");
  if (state.past.length) return become(moves.undo(state), "Last move undone.");
  await drafts.push();
  const { status, body } = await post("/label/back", {});
  if (status === 200) location.assign("/label");
  else say(status === 0 ? "The server cannot be reached; try again later." : body.error);
}

function focusCard(card) {
  current = card;
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
  drawCurrent();
}

// -- sending --------------------------------------------------------------------------------------------

async function submit(tiesMeant = false) {
  const reason = moves.missing(state, facts);
  if (reason || sent) return say(reason || "Already on its way.");
  if (protocol === "rank" && !tiesMeant && moves.tieShare(state) > facts.tie_share) return dialogs.askTies(state);
  const body = { ...moves.answerOf(state, protocol), key, seconds: spent(), guidelines: facts.guidelines };
  await send({ key, url: `${base}/submit`, assignment, body });
}

/** Journal and send. `arrived` goes on when it is stored; until then the page says where it is. */
async function send(entry) {
  freeze(true);
  drafts.push(); // what is sent and what is kept are the same, should this be taken back
  if ((await outbox.send(entry)) === "waiting") say("Saved here; it will be sent when the server answers.");
}

const isThis = (entry) => entry.assignment === assignment && !entry.url.endsWith("/flag");

function arrived(entry, answer) {
  if (!isThis(entry)) return;
  drafts.clear();
  location.assign(answer.next ?? "/label");
}

function returned(entry) {
  if (isThis(entry)) freeze(false);
}

async function remark(kind, reason, note) {
  const body = { key: newKey(), reason, note };
  const entry = { key: body.key, url: `${base}/${kind}`, assignment, body };
  if (kind === "skip") return send(entry);
  const became = await outbox.send(entry);
  say(became === "refused" ? "The report was not accepted." : "Reported, thank you. You can still answer the task.");
}

function freeze(on) {
  sent = on;
  document.body.classList.toggle("sent", on);
  draw();
}

// -- drawing --------------------------------------------------------------------------------------------

function draw() {
  for (const card of cards) drawCard(card);
  if (protocol === "rank" || protocol === "thumb") drawLanes();
  if (protocol === "pair") for (const point of document.querySelectorAll("#scale input")) point.checked = point.value === String(state.choice);
  if (protocol === "edit") drawEdit();
  if ($("note").value !== state.note) $("note").value = state.note;
  const reason = moves.missing(state, facts);
  $("reason").textContent = sent ? "Saved here. Sending…" : reason || ready();
  $("submit").setAttribute("aria-disabled", String(Boolean(reason) || sent));
  const undoing = state.past.length > 0;
  $("undo").replaceChildren(undoing ? "Undo move " : "Take back last ", keyCap("Z"));
  $("undo").title = undoing ? "Undo the last move" : "Take back your last answer";
  $("undo").disabled = !undoing && (!facts.can_take_back || Boolean(facts.revises));
  drawCurrent();
}

const ready = () =>
  protocol === "rank" && moves.trayOf(state).length ? "Ready; unranked answers count as not judged." : "Ready to submit.";

function laneOf(id) {
  if (protocol === "thumb") return state.thumbs[id] === undefined ? "tray" : state.thumbs[id] ? "good" : "bad";
  return String(state.places[id] ?? "tray");
}

function drawCard(card) {
  const id = card.dataset.id;
  const lane = laneOf(id);
  card.classList.toggle("placed", lane !== "tray" && lane !== FAIL && lane !== "bad");
  card.classList.toggle("failed", lane === FAIL || lane === "bad");
  for (const button of card.querySelectorAll("[data-move]")) {
    const on = button.dataset.move === lane;
    if (button.dataset.move === "tray") button.disabled = on;
    else button.setAttribute("aria-pressed", String(on));
  }
  const said = { tray: "", [FAIL]: "Fail", good: "Good", bad: "Bad" }[lane] ?? `Tier ${lane}`;
  card.querySelector(".place").textContent = said || { rank: "Unranked", thumb: "Not judged" }[protocol] || "";
}

function drawLanes() {
  const many = moves.lanes(state);
  for (const row of document.querySelectorAll(".lane.tier")) row.hidden = Number(row.dataset.row) > many;
  for (const id of shown) document.querySelector(`[data-lane="${laneOf(id)}"]`).append(chips.get(id));
}

function drawCurrent() {
  for (const card of cards) card.classList.toggle("current", card === current);
  for (const [id, chip] of chips) chip.classList.toggle("current", current.dataset.id === id);
}

function drawEdit() {
  const field = $("better");
  field.disabled = !state.editedOf;
  if (field.value !== state.edited) field.value = state.edited;
  for (const button of document.querySelectorAll("[data-edit]")) {
    button.setAttribute("aria-pressed", String(button.dataset.edit === state.editedOf));
  }
}

function keyCap(text) {
  const cap = document.createElement("kbd");
  cap.textContent = text;
  cap.setAttribute("aria-hidden", "true");
  return cap;
}

/** Tell a screen reader; on the screen the change itself says it, or the line above Submit. */
function say(text) {
  $("said").textContent = "";
  requestAnimationFrame(() => ($("said").textContent = text));
}

// -- wiring ---------------------------------------------------------------------------------------------

const chips = new Map([...document.querySelectorAll(".chip")].map((chip) => [chip.dataset.id, chip]));
const dialogs = new Dialogs({ facts, remark, submit: () => submit(true), letter: (id) => moves.letter(state, id) });

function makeDraggable() {
  const options = {
    sort: false, animation: 0, forceFallback: true, fallbackOnBody: true, fallbackTolerance: 4,
    onStart: () => hold(true),
    onEnd: ({ item, clone, to, from, originalEvent }) => {
      const id = item.dataset.id ?? from.closest(".answer").dataset.id;
      const lane = laneAt(originalEvent) ?? to.dataset.lane;
      hold(false);
      if (item.matches(".badge") && to !== from) clone.replaceWith(item); // the letter stays on its answer
      if (lane) move(id, lane);
      draw();
    },
  };
  for (const list of document.querySelectorAll(".chips")) new Sortable(list, { ...options, group: "answers" });
  for (const title of document.querySelectorAll(".answer h3")) {
    new Sortable(title, { ...options, draggable: ".badge", group: { name: "answers", pull: "clone", put: false } });
  }
}

/** The lane under the pointer. Sortable looks only every 50 ms: a quick hand would leave the letter a lane behind. */
function laneAt(event) {
  const { clientX, clientY } = event?.changedTouches?.[0] ?? event ?? {};
  if (clientX === undefined) return undefined;
  return document.elementFromPoint(clientX, clientY)?.closest(".lane")?.dataset.row;
}

/** While a letter is dragged the lanes keep their sizes: none moves away from under the pointer. */
function hold(on) {
  const rows = [...document.querySelectorAll(".lane")];
  const sizes = rows.map((row) => [row.offsetWidth, row.offsetHeight]);
  rows.forEach((row, at) => {
    row.style.width = on ? `${sizes[at][0]}px` : "";
    row.style.height = on ? `${sizes[at][1]}px` : "";
  });
  document.body.classList.toggle("dragging", on);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  const card = event.target.closest(".answer");
  if (card) current = card;
  drawCurrent();
  if (!button) return;
  const { move: lane, edit, better, diff, goto: name, raw, open } = button.dataset;
  if (lane) move(card.dataset.id, lane);
  else if (edit) startFrom(edit);
  else if (better) choose(better === "0" ? -2 : 2);
  else if (diff) dialogs.showDiff(diff);
  else if (name) focusCard($(`answer-${name}`));
  else if (raw) showRaw(button, $(raw));
  else if (open) $(open).showModal();
});

function showRaw(button, box) {
  const raw = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(raw));
  for (const text of box.querySelectorAll(".md")) text.hidden = raw;
  for (const text of box.querySelectorAll(".raw")) text.hidden = !raw;
}

document.addEventListener("focusin", (event) => {
  const card = event.target.closest?.(".answer");
  if (card) current = card;
  drawCurrent();
});
document.addEventListener("keydown", keyHandler({
  protocol, cards, focusCard, submit, back, choose, move, insert, startFrom, dialogs,
  current: () => current,
  choice: () => state.choice,
}));
$("submit").addEventListener("click", () => submit());
$("undo").addEventListener("click", back);
$("note").addEventListener("input", ({ target }) => {
  state = { ...state, note: target.value };
  keep();
});
$("better")?.addEventListener("input", ({ target }) => {
  state = { ...state, edited: target.value };
  keep();
  draw();
});
$("scale")?.addEventListener("change", ({ target }) => choose(target.value === FAIL ? FAIL : Number(target.value)));

if (protocol === "rank" || protocol === "thumb") makeDraggable();
freeze(outbox.entries().some((entry) => isThis(entry) && entry.state === "waiting"));
outbox.reconcile();
$("task").dataset.ready = "true";
