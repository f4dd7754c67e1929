"""Rankings by real people for consensus_people.py, as accord's records. Read where they lie, never copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _real_data import rows
from accord.judgements import Ranking
from accord.types import Completion, Prompt

FOLDER = "preferences-multi-annotator"


@dataclass(frozen=True)
class People:
    """One set of judgements by several people."""

    prompts: dict[str, Prompt]
    completions: dict[str, list[Completion]]
    rankings: list[Ranking]
    by_labeler: bool = False
    """Few prompts and many labelers: intervals resample labelers instead of prompts."""
    groups: int = 16
    """Labelers are held out in so many groups, one by one where there are no more labelers than that."""


def load(folder: Path) -> dict[str, People]:
    """The four sets whose labelers have names."""
    return {
        "SQuALITY": squality(folder),
        "PandaLM": pandalm(folder),
        "Tulu": tulu(folder),
        "Breakfast": breakfast(folder),
    }


def squality(folder: Path) -> People:
    """100 questions on stories; three of four reviewers rank three summaries overall."""
    data = rows(folder, f"{FOLDER}/squality_summary_rankings")
    rankings = [
        Ranking(row["id"], review["annotator"], _tiers({c: s["overall_rank"] for c, s in scores.items()}))
        for row in data
        for review in row["reviews"]
        if (scores := review["scores"])
    ]
    return People(*_texts(data, lambda r: (r["question"], r["responses"])), rankings)


def pandalm(folder: Path) -> People:
    """999 pairs of answers to instructions, three annotators; the publisher kept pairs of high agreement."""
    data = rows(folder, f"{FOLDER}/pandalm_pairs")
    texts = _texts(data, lambda r: (r["instruction"], {c: str(r[c]) for c in ("response1", "response2")}))
    return People(*texts, _votes(data, texts[1], lambda r: r["annotations"].items()))


def tulu(folder: Path) -> People:
    """996 pairs of models' answers, sixteen evaluators; 127 pairs were judged more than once."""
    data = rows(folder, f"{FOLDER}/tulu_human_eval_pairs")
    texts = _texts(data, lambda r: (r["prompt"], r["completions"]))
    return People(
        *texts, _votes(data, texts[1], lambda r: [(a["annotator"], a["preferred"]) for a in r["annotations"]])
    )


def breakfast(folder: Path) -> People:
    """42 people order fifteen breakfast items for six occasions: tastes, which differ, and not a truth."""
    data = rows(folder, f"{FOLDER}/breakfast_rankings")
    items = sorted(next(iter(data[0]["rankings"].values())))
    occasions = list(data[0]["rankings"])
    rankings = [
        Ranking(occasion, row["annotator"], tuple((item,) for item in order))
        for row in data
        for occasion, order in row["rankings"].items()
    ]
    return People(
        {o: Prompt.from_text(o, id=o) for o in occasions},
        {o: [Completion(item, id=item) for item in items] for o in occasions},
        rankings,
        by_labeler=True,
        groups=7,
    )


@dataclass(frozen=True)
class Crowd:
    """Ballots without names on tasks whose true order is known."""

    prompts: dict[str, Prompt]
    completions: dict[str, list[Completion]]
    ballots: dict[str, list[tuple[str, ...]]]
    truth: dict[str, dict[str, float]]
    """Prompt -> completion -> value, the best highest."""

    def draw(self, per_prompt: int, rng: np.random.Generator, names: int | None = None) -> list[Ranking]:
        """So many ballots a prompt, without replacement, as rankings by ``names`` stand-ins (default: each
        ballot a labeler of its own)."""
        return [
            Ranking(prompt, f"stand-in {n % (names or per_prompt)}", tuple((c,) for c in ballots[i]))
            for prompt, ballots in self.ballots.items()
            for n, i in enumerate(rng.permutation(len(ballots))[:per_prompt])
        ]


def mturk(folder: Path) -> Crowd:
    """Eight tasks (count dots, order puzzles by moves to the goal), some 800 ballots each."""
    data = rows(folder, f"{FOLDER}/preflib_mturk_rankings")
    return Crowd(
        *_texts(data, lambda r: (r["title"], r["alternatives"])),
        {
            row["id"]: [tuple(map(str, b["ranking"])) for b in row["ballots"] for _ in range(b["count"])]
            for row in data
        },
        {row["id"]: {str(c): -float(n) for n, c in enumerate(row["true_ranking"])} for row in data},
    )


def _texts(
    data: Iterable[Mapping[str, Any]], parts: Callable[[Any], tuple[str, Mapping[str, str]]]
) -> tuple[dict[str, Prompt], dict[str, list[Completion]]]:
    prompts, completions = {}, {}
    for row in data:
        question, answers = parts(row)
        prompts[row["id"]] = Prompt.from_text(question, id=row["id"])
        completions[row["id"]] = [Completion(text, id=name) for name, text in answers.items()]
    return prompts, completions


def _tiers(ranks: Mapping[str, float]) -> tuple[tuple[str, ...], ...]:
    """Tiers from completion -> rank, the lowest first."""
    tiers = defaultdict(list)
    for completion, rank in ranks.items():
        tiers[rank].append(completion)
    return tuple(tuple(tiers[rank]) for rank in sorted(tiers))


def _votes(
    data: Iterable[Mapping[str, Any]],
    completions: Mapping[str, list[Completion]],
    votes: Callable[[Any], Iterable[tuple[str, str]]],
) -> list[Ranking]:
    """Votes on pairs; what names neither answer is a tie."""
    rankings = []
    for row in data:
        names = tuple(c.id for c in completions[row["id"]])
        for labeler, vote in votes(row):
            tiers = ((vote,), tuple(c for c in names if c != vote)) if vote in names else (names,)
            rankings.append(Ranking(row["id"], labeler, tiers))
    return rankings
