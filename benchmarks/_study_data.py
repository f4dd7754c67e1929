"""Four public sets of human judgements for reward_study.py: what to train on, what to test on, who judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _people_data import pandalm, squality
from _real_data import rows
from _real_rewards import Pairs, hh_extract, hh_pairs, tulu_feedback, tulu_pairs
from accord.judgements import Comparison, Ranking
from accord.types import Completion, Prompt, digest

FOLDER = "preferences-multi-annotator"


@dataclass(frozen=True)
class Judgements:
    """Decided pairs, the single judgements behind them, and how a model is trained for them."""

    name: str
    pairs: Pairs
    rankings: list[Ranking]
    """By named people, on the same prompt and completion ids; empty where a pair has one judgement."""
    apart: str
    """What is never on both sides of the split."""
    learn: list[Comparison] | None = None
    """Where training has pairs of its own; folds of ``pairs`` otherwise."""
    whole: bool = False
    """Whether every judged pair is among the pairs. Where those that people split on are not, a ceiling
    would be of pairs chosen because people agreed; docs/people.md has it of all pairs."""
    epochs: int = 1
    max_length: int = 128

    @property
    def batch_prompts(self) -> int:
        """Prompts a step that hold about sixteen pairs, which is TRL's batch."""
        pairs = self.learn or self.pairs.comparisons
        return max(1, round(16 * len({pair.prompt.id for pair in pairs}) / len(pairs)))


def load(data: Path, names: Iterable[str], limit: int | None, extract: int) -> list[Judgements]:
    """The sets by name; ``limit`` cuts each, for a quick run."""
    makers = {"hh": _hh, "tulu": _tulu, "pandalm": _pandalm, "squality": _squality}
    return [makers[name](data, limit, extract) for name in names]


def _hh(data: Path, limit: int | None, extract: int) -> Judgements:
    pairs = hh_pairs(data, limit)
    learn = hh_extract(data, extract, set(pairs.clusters))
    return Judgements("hh-rlhf harmless", pairs, [], "first human turn", learn)


def _tulu(data: Path, limit: int | None, _: int) -> Judgements:
    feedback = tulu_feedback(data, limit)
    return Judgements("Tulu", tulu_pairs(feedback), feedback.rankings, "prompt")


def _pandalm(data: Path, limit: int | None, _: int) -> Judgements:
    """Prompts are instruction and input; a prompt's pairs share its completions."""
    people = pandalm(data)
    prompts = {
        row["id"]: Prompt.from_text("\n\n".join(filter(None, (row["instruction"], row["input"]))))
        for row in rows(data, f"{FOLDER}/pandalm_pairs")[:limit]
    }
    texts = {
        row: {c.id: Completion(c.text, id=digest(c.text)) for c in people.completions[row]} for row in prompts
    }
    rankings = [
        Ranking(
            prompts[r.prompt_id].id,
            r.labeler,
            tuple(tuple(texts[r.prompt_id][c].id for c in tier) for tier in r.tiers),
        )
        for r in people.rankings
        if r.prompt_id in prompts and len({c.text for c in texts[r.prompt_id].values()}) == 2
    ]
    completions = {prompts[row].id: {c.id: c for c in texts[row].values()} for row in prompts}
    for row in prompts:
        completions[prompts[row].id] |= {c.id: c for c in texts[row].values()}
    found = _decided({p.id: p for p in prompts.values()}, completions, rankings)
    return Judgements("PandaLM", Pairs(found, [p.prompt.id for p in found]), rankings, "prompt")


def _squality(data: Path, limit: int | None, _: int) -> Judgements:
    """Questions on a story, which is too long to be read here; no story is on both sides."""
    people = squality(data)
    story = {row["id"]: row["passage_id"] for row in rows(data, f"{FOLDER}/squality_summary_rankings")}
    kept = set(list(story)[:limit])
    rankings = [r for r in people.rankings if r.prompt_id in kept]
    completions = {p: {c.id: c for c in group} for p, group in people.completions.items()}
    found = _decided(people.prompts, completions, rankings)
    clusters = [story[pair.prompt.id] for pair in found]
    return Judgements(
        "SQuALITY",
        Pairs(found, clusters),
        rankings,
        "story",
        whole=True,
        epochs=2,
        max_length=128 if limit is None else 48,
    )


def _decided(
    prompts: dict[str, Prompt], completions: dict[str, dict[str, Completion]], rankings: Sequence[Ranking]
) -> list[Comparison]:
    """Pairs that more people decided one way than the other, with their share of votes; ties by halves."""
    votes: Counter[tuple[str, str, str]] = Counter()
    for ranking in rankings:
        place = {c: n for n, tier in enumerate(ranking.tiers) for c in tier}
        for a, level in place.items():
            for b, other in place.items():
                if a != b and level <= other:
                    votes[ranking.prompt_id, a, b] += 0.5 if level == other else 1.0
    found = []
    for (prompt, a, b), won in votes.items():
        lost = votes[prompt, b, a]
        if won > lost:
            pair = completions[prompt][a], completions[prompt][b]
            found.append(Comparison(prompts[prompt], *pair, p_chosen=won / (won + lost)))
    return found
