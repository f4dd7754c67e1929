// One task's answer as plain values, and every move on it as a pure function: no DOM, no network, no clock.
//
// A state is { shown, places, choice, thumbs, edited, editedOf, note, past }:
//   shown     ids of the completions in the order on the screen; a completion's letter is its position (A, B, ...)
//   places    id -> tier (1 is best) or FAIL; an id that is absent is in the tray
//   choice    pair: -3..3 (below 0 the first is better, 0 a tie), FAIL where both fail, null where open
//   thumbs    id -> true (good) or false (bad)
//   edited    the better answer, and editedOf the id of the completion it started from
//   past      the answers before the latest moves, newest last, for undo

export const FAIL = "fail";
const PAST = 30;
const PARTS = ["places", "choice", "thumbs", "edited", "editedOf"];

export function start(shown) {
  return { shown, places: {}, choice: null, thumbs: {}, edited: "", editedOf: "", note: "", past: [] };
}

export const letter = (state, id) => String.fromCharCode(65 + state.shown.indexOf(id));

/** The state with `changes`, and what it was before kept for undo. A move that changes nothing leaves no trace. */
function moved(state, changes) {
  const before = Object.fromEntries(PARTS.map((part) => [part, state[part]]));
  const after = { ...before, ...changes };
  if (JSON.stringify(sorted(before)) === JSON.stringify(sorted(after))) return state;
  return { ...state, ...changes, past: [...state.past, before].slice(-PAST) };
}

const sorted = (answer) =>
  PARTS.map((part) => (isPlain(answer[part]) ? Object.entries(answer[part]).sort() : answer[part]));
const isPlain = (value) => value !== null && typeof value === "object";

/** Put completion `id` on `tier` (1..N), on FAIL, or back into the tray (null). */
export function place(state, id, tier) {
  const places = { ...state.places };
  if (tier === null) delete places[id];
  else places[id] = tier === FAIL ? FAIL : Math.max(1, Math.min(state.shown.length, tier));
  return moved(state, { places });
}

/** Put `id` on a tier of its own at `tier`; what stood there or below moves down to make room. */
export function insert(state, id, tier) {
  const rest = { ...state.places };
  delete rest[id];
  const wanted = tiersOf({ ...state, places: rest });
  const used = [...new Set(Object.values(rest).filter((at) => at !== FAIL))].sort((a, b) => a - b);
  const position = used.filter((at) => at < tier).length;
  wanted.splice(position, 0, [id]);
  const places = Object.fromEntries(wanted.flatMap((ids, at) => ids.map((one) => [one, at + 1])));
  for (const one of failsOf({ ...state, places: rest })) places[one] = FAIL;
  return moved(state, { places });
}

export const choose = (state, choice) => moved(state, { choice });
export const edit = (state, edited, editedOf) => moved(state, { edited, editedOf });

export function thumb(state, id, up) {
  const thumbs = { ...state.thumbs };
  if (up === null) delete thumbs[id];
  else thumbs[id] = up;
  return moved(state, { thumbs });
}

export function undo(state) {
  if (!state.past.length) return state;
  return { ...state, ...state.past.at(-1), past: state.past.slice(0, -1) };
}

/** Tiers best first, empty ones closed up; within a tier the order shown, which means nothing. */
export function tiersOf(state) {
  const tiers = new Map();
  for (const id of state.shown) {
    const at = state.places[id];
    if (at === undefined || at === FAIL) continue;
    tiers.set(at, [...(tiers.get(at) ?? []), id]);
  }
  return [...tiers.keys()].sort((a, b) => a - b).map((at) => tiers.get(at));
}

export const failsOf = (state) => state.shown.filter((id) => state.places[id] === FAIL);
export const trayOf = (state) => state.shown.filter((id) => state.places[id] === undefined);

/** How many tier lanes to show: those in use and one more below them. */
export function lanes(state) {
  const used = Object.values(state.places).filter((at) => at !== FAIL);
  return Math.min(state.shown.length, Math.max(0, ...used) + 1);
}

/** The share of tied pairs among the pairs that carry an order: all placed ones but FAIL with FAIL. */
export function tieShare(state) {
  const pairs = (n) => (n * (n - 1)) / 2;
  const tiers = tiersOf(state);
  const fails = failsOf(state).length;
  const all = pairs(tiers.flat().length + fails) - pairs(fails);
  return all ? tiers.reduce((sum, tier) => sum + pairs(tier.length), 0) / all : 0;
}

/** Why this cannot be submitted yet, as a sentence; "" where it can. */
export function missing(state, { protocol, partial, texts }) {
  if (protocol === "pair") return state.choice === null ? "Choose which answer is better." : "";
  if (protocol === "edit") return editMissing(state, texts);
  const open =
    protocol === "thumb" ? state.shown.filter((id) => state.thumbs[id] === undefined) : trayOf(state);
  if (!open.length) return "";
  const names = open.map((id) => letter(state, id)).join(", ");
  if (protocol === "thumb") return `Still to judge: ${names}.`;
  if (!partial) return `Still to place: ${names}.`;
  const placed = state.shown.length - open.length;
  return placed >= 2 || failsOf(state).length ? "" : "Place at least two answers, or fail one.";
}

function editMissing(state, texts) {
  if (!state.editedOf) return "Choose the answer to start from.";
  if (!state.edited.trim()) return "Write the better answer.";
  return Object.values(texts).includes(state.edited) ? "Change the text, or skip the task." : "";
}

/** What is submitted, in the words of the server. */
export function answerOf(state, protocol) {
  const base = { tiers: [], fails: [], note: state.note.trim() };
  if (protocol === "pair") return { ...base, ...pairOf(state) };
  if (protocol === "thumb") return { ...base, thumbs: state.thumbs };
  if (protocol === "edit") return { ...base, edited: state.edited, edited_of: state.editedOf };
  return { ...base, tiers: tiersOf(state), fails: failsOf(state) };
}

function pairOf({ shown, choice }) {
  if (choice === FAIL) return { fails: shown };
  if (choice === 0) return { tiers: [shown], strength: 0 };
  const best = choice < 0 ? shown : [...shown].reverse();
  return { tiers: best.map((id) => [id]), strength: Math.abs(choice) / 3 };
}

/** The state as a draft to keep, and back. A draft of other completions, or of another order, is refused (null):
 *  a choice in it would mean another answer. */
export const draftOf = (state) => ({ ...state });

export function restore(shown, draft) {
  if (!isPlain(draft)) return null;
  if (draft.shown !== undefined && JSON.stringify(draft.shown) !== JSON.stringify(shown)) return null;
  const known = new Set(shown);
  const ids = [...Object.keys(draft.places ?? {}), ...Object.keys(draft.thumbs ?? {})];
  if (!ids.every((id) => known.has(id))) return null;
  const fresh = start(shown);
  for (const part of [...PARTS, "note"]) if (draft[part] !== undefined) fresh[part] = draft[part];
  return { ...fresh, past: Array.isArray(draft.past) ? draft.past : [] };
}

/** The state of an answer that was taken back: { tiers, fails, strength, note }. */
export function fromAnswer(shown, answer, protocol) {
  const state = { ...start(shown), note: answer.note ?? "" };
  if (protocol === "pair") return { ...state, choice: choiceOf(shown, answer) };
  const places = {};
  answer.tiers.forEach((tier, at) => tier.forEach((id) => (places[id] = at + 1)));
  answer.fails.forEach((id) => (places[id] = FAIL));
  return { ...state, places };
}

function choiceOf(shown, { tiers, fails, strength }) {
  if (fails.length) return FAIL;
  if (tiers.length === 1) return 0;
  const size = Math.max(1, Math.round((strength ?? 1) * 3));
  return tiers[0][0] === shown[0] ? -size : size;
}
