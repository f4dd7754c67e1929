// Plays moves on the task page's state: games as JSON on stdin, what each would submit as JSON on stdout.
// node play_state.mjs STATE_MODULE < games
import { readFileSync } from "node:fs";

const moves = await import(process.argv[2]);

function step(state, [what, ...given]) {
  if (what !== "reload") return moves[what](state, ...given);
  return moves.restore(state.shown, JSON.parse(JSON.stringify(moves.draftOf(state))));
}

function play({ protocol, shown, steps }) {
  const state = steps.reduce(step, moves.start(shown));
  const sent = moves.answerOf(state, protocol);
  const back = { tiers: sent.tiers, fails: sent.fails, strength: sent.strength, note: sent.note };
  const open = moves.missing(state, { protocol, partial: false, texts: {} });
  const again = open ? null : moves.answerOf(moves.fromAnswer(shown, back, protocol), protocol);
  const other = [...shown].reverse();
  return { sent, open, again, elsewhere: moves.restore(other, moves.draftOf(state)) };
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(play)));
