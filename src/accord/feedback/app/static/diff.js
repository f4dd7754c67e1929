// The words in which two answers differ, as DOM nodes. Answers are only ever set as text, never as markup.

const MAX_TOKENS = 2000; // the table takes time and memory by the square

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
  if (before === after || runs === null) {
    left.replaceChildren(before);
    right.replaceChildren(after);
    return runs === null ? "Too long to mark the differences." : "The two are the same, word for word.";
  }
  left.replaceChildren(...nodes(runs, "del"));
  right.replaceChildren(...nodes(runs, "ins"));
  const words = (kind) =>
    runs.filter((run) => run.kind === kind).reduce((n, run) => n + tokens(run.text).filter((t) => t.trim()).length, 0);
  const [same, gone, come] = ["same", "del", "ins"].map(words);
  return `${Math.round((200 * same) / Math.max(1, 2 * same + gone + come))} % of the words are in both.`;
}

function nodes(runs, own) {
  return runs
    .filter((run) => run.kind === "same" || run.kind === own)
    .map((run) => {
      if (run.kind === "same" || !run.text.trim()) return document.createTextNode(run.text);
      const marked = document.createElement(own);
      marked.textContent = run.text;
      return marked;
    });
}
