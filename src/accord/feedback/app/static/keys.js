// Keys of the task page. Typing in a field is typing; a button's own Enter and Space stay its own.

const STEPS = { ArrowRight: 1, ArrowLeft: -1, j: 1, k: -1 };
const KEY = "accord:keys";

export const keysOn = () => localStorage.getItem(KEY) !== "off";
export const setKeys = (on) => localStorage.setItem(KEY, on ? "on" : "off");

/** A keydown listener over the page's actions. */
export function keyHandler(page) {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open], :popover-open")) return escape(event);
    const field = event.target.closest("textarea, select, input:not([type=radio])");
    if (field?.checkVisibility()) {
      // a field of a dialog just closed may hold the focus for a moment longer: that is no typing
      if (event.key === "Escape") field.blur();
      return;
    }
    if (press(event, page)) event.preventDefault();
  };
}

/** Close what is open at once; the browser's own way takes a moment, in which the next key would be lost. */
function escape(event) {
  if (event.key !== "Escape") return;
  event.preventDefault();
  document.querySelector(":popover-open")?.hidePopover();
  document.querySelector("dialog[open]")?.close();
}

function press(event, page) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const card = page.current();
  if (key === "Enter") return enter(event, page);
  if (key.startsWith("Arrow") && event.target.matches("#scale input")) return false; // the scale's own
  if (key === "ArrowDown" || key === "ArrowUp") {
    page.focusCard(beside(page.cards, card, key === "ArrowDown" ? 1 : -1));
    return true;
  }
  if (key in STEPS) {
    page.focusCard(next(page.cards, card, STEPS[key]));
    return true;
  }
  if (!keysOn() || event.repeat) return false;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1] ?? (/^[1-9]$/.test(key) ? key : null);
  if (digit) return number(Number(digit), event.shiftKey, card, page);
  return letterKey(key, card, page);
}

function enter(event, page) {
  if (event.target.closest("button, a, summary")) return false; // the control's own
  page.submit();
  return true;
}

function number(digit, shift, card, { protocol, move, insert, choose }) {
  if (protocol === "rank") (shift ? insert : move)(card.dataset.id, digit);
  else if (protocol === "thumb" && digit <= 2) move(card.dataset.id, digit === 1 ? "good" : "bad");
  else if (protocol === "pair" && digit <= 7) choose(digit - 4);
  else return false;
  return true;
}

function letterKey(key, card, page) {
  const { protocol, dialogs } = page;
  const id = card.dataset.id;
  const does = {
    z: () => page.back(),
    d: () => dialogs.showDiff(id),
    "?": () => dialogs.open("keys-dialog"),
    n: () => document.getElementById("note").focus(),
    s: () => dialogs.open("skip-dialog"),
    r: () => dialogs.open("flag-dialog"),
  };
  if (protocol === "rank") Object.assign(does, { f: () => page.move(id, "fail"), u: () => page.move(id, "tray") });
  if (protocol === "thumb") Object.assign(does, { u: () => page.move(id, "tray") });
  if (protocol === "pair") Object.assign(does, { f: () => page.choose("fail"), t: () => page.choose(0) });
  if (protocol === "edit") Object.assign(does, { e: () => page.startFrom(id) });
  if (!does[key]) return false;
  does[key]();
  return true;
}

const next = (cards, card, step) => cards[Math.max(0, Math.min(cards.length - 1, cards.indexOf(card) + step))];

/** The card below or above in the same column; where there is none, the next or the one before. */
function beside(cards, card, step) {
  const here = card.getBoundingClientRect();
  const column = cards.filter((one) => Math.abs(one.getBoundingClientRect().left - here.left) < 4);
  return column[column.indexOf(card) + step] ?? next(cards, card, step);
}
