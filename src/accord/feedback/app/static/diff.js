// The words in which two answers differ, as DOM nodes. Answers are only ever set as text, never as markup.

const MAX_TOKENS = 2000; // the table takes time and memory by the square
const MIN_SHARED = 0.1; // below this share of common words the marks would cover everything

const tokens = (text) => text.match(/\s+|[.,;:!?]+|[^\s.,;:!?]+/g) ?? [];

/** Runs { kind: "same" | "del" | "ins", text } by the longest common subsequence; null where too long. */
export function diff(before, after) {
  const a = tokens(before);
  const b = tokens(after);
  if (Math.max(a.length, b.length) > MAX_TOKENS) return null;
  const table = lengths(a, b);
  const width = b.length + 1;
  const runs = [];
  const add = (kind, text) => {
    if (runs.at(-1)?.kind === kind) runs.at(-1).text += text;
    else runs.push({ kind, text });
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("same", a[i]);
      i += 1;
      j += 1;
    } else if (j === b.length || (i < a.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) {
      add("del", a[i]);
      i += 1;
    } else {
      add("ins", b[j]);
      j += 1;
    }
  }
  return runs;
}

/** table[i * (b.length + 1) + j]: length of the longest common subsequence of a[i..] and b[j..]. */
function lengths(a, b) {
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i * width + j] =
        a[i] === b[j]
          ? table[(i + 1) * width + j + 1] + 1
          : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  return table;
}

/** Fill `left` and `right` with the two texts, each with its own words marked; returns a sentence about it. */
export function showDiff(left, right, before, after) {
  const runs = diff(before, after);
  const share = runs && shared(runs);
  const marks = runs && before !== after && share >= MIN_SHARED;
  left.replaceChildren(...(marks ? nodes(runs, "del") : [before]));
  right.replaceChildren(...(marks ? nodes(runs, "ins") : [after]));
  if (before === after) return "The two are the same, word for word.";
  if (!runs) return "Too long to mark the differences.";
  const said = `${Math.round(100 * share)} % of the words are in both`;
  return marks ? `${said}.` : `${said}: too few to mark the differences.`;
}

const words = (text) => tokens(text).filter((token) => token.trim()).length;

/** The share of both texts' words that are common to them, from 0 to 1. */
function shared(runs) {
  const count = (kind) => runs.reduce((sum, run) => sum + (run.kind === kind ? words(run.text) : 0), 0);
  const [same, gone, come] = ["same", "del", "ins"].map(count);
  return (2 * same) / Math.max(1, 2 * same + gone + come);
}

/** One side's text, its own words marked; a lone word that both share between two changes belongs to them. */
function nodes(runs, own) {
  const parts = [];
  runs.forEach(({ kind, text }, at) => {
    if (kind !== "same" && kind !== own) return;
    const lone = kind === "same" && at > 0 && at < runs.length - 1 && words(text) < 2;
    const marked = kind === own || lone;
    if (parts.at(-1)?.marked === marked) parts.at(-1).text += text;
    else parts.push({ marked, text });
  });
  return parts.map(({ marked, text }) => (marked && text.trim() ? element(own, text) : text));
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
