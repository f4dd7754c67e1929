"""Part (a) of real_feedback.py: reward models on real human comparisons, beside two baselines.

HH (harmless): a model trained on the train extract's last replies, tested on the whole test file; then
tuned on four fifths of the test file's pairs and tested on the other fifth, five times, by first human
turn. Tulu: five folds by prompt on what most evaluators said of a pair. Both from MiniLM and from a
small decoder trained here. Rows of the extract whose first human turn is in the test file are left out.

Beside each: the better of "the longer wins" and "the shorter wins", chosen on the training pairs; and
TRL's RewardTrainer from the same base, on the same token ids, with the same epochs, batch, rate, warm-up
and centering: on the HH extract, and on as many folds of Tulu as asked. What differs: accord keeps back
a twentieth of the training prompts to choose the epoch by, puts all pairs of a prompt into one batch, and
gives MiniLM its segment ids.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _real_data import rows
from _real_models import cached, remembered, say
from accord.feedback.formats.gather import Feedback
from accord.feedback.formats.read import read_feedback
from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.render import Template
from accord.reward.train import RewardConfig, train
from accord.stats.intervals import Interval, clustered_mean
from accord.types import digest, score_groups

HERE = Path(__file__).parent
PEER = HERE.parent / ".venv-trl/bin/python"
FOLDS = 5
Scores = list[list[float]]


@dataclass(frozen=True)
class Base:
    """A model to start from, and the rate it is trained with (set once, before any test score was seen)."""

    name: str
    path: Path
    learning_rate: float


@dataclass(frozen=True)
class Pairs:
    """Comparisons that have a winner, and for each the cluster it is split and resampled with."""

    comparisons: list[Comparison]
    clusters: list[str]

    def fold(self, number: int) -> tuple[list[int], list[int]]:
        """Positions to train and to test on; a cluster is in one fold only."""
        names = sorted(set(self.clusters))
        random.Random(904).shuffle(names)
        place = {name: i % FOLDS for i, name in enumerate(names)}
        at = range(len(self.clusters))
        inside = [i for i in at if place[self.clusters[i]] == number]
        return [i for i in at if place[self.clusters[i]] != number], inside


# -- data --------------------------------------------------------------------------------------


def hh_pairs(data: Path, limit: int | None) -> Pairs:
    """The test file's pairs, clustered by first human turn."""
    feedback = read_feedback(data / "hh-rlhf/harmless_base_test.jsonl.gz", limit=limit)
    found = winners(feedback)
    return Pairs(found, [pair.prompt.messages[0].content.strip() for pair in found])


def hh_extract(data: Path, limit: int | None, without: set[str]) -> list[Comparison]:
    """The train extract: the first human turn as prompt, though turns between may be missing."""
    names = {
        "prompt": "first_human_turn",
        "chosen": "chosen_last_reply",
        "rejected": "rejected_last_reply",
    }
    path = data / "hh-rlhf/harmless_base_train_last_reply.jsonl.gz"
    found = winners(read_feedback(path, "trl-preference", columns=names))
    return [pair for pair in found if pair.prompt.text.strip() not in without][:limit]


def winners(feedback: Feedback) -> list[Comparison]:
    """Imported pairs of one labeler each, taken at their word."""
    texts = {c.id: c for group in feedback.completions.values() for c in group}
    return [
        Comparison(feedback.prompts[r.prompt_id], texts[r.tiers[0][0]], texts[r.tiers[1][0]], source=r.source)
        for r in feedback.rankings
        if len(r.tiers) == 2
    ]


def tulu_feedback(data: Path, limit: int | None) -> Feedback:
    """What the evaluators said, one ranking of two completions each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tulu.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in _tulu_rankings(data, limit)))
        return read_feedback(file, "rankings")


def tulu_pairs(feedback: Feedback) -> Pairs:
    """Pairs that more evaluators decided one way than the other, clustered by prompt.

    Not accord's consensus, which would also give winners to pairs that were only called ties, from what
    was said of the prompt's other completions: the test is to be what people said of this very pair.
    """
    votes = Counter(
        (r.prompt_id, r.tiers[0][0], r.tiers[1][0]) for r in feedback.rankings if len(r.tiers) == 2
    )
    texts = {c.id: c for group in feedback.completions.values() for c in group}
    found = [
        Comparison(feedback.prompts[prompt], texts[better], texts[worse])
        for (prompt, better, worse), count in votes.items()
        if count > votes[prompt, worse, better]
    ]
    return Pairs(found, [pair.prompt.id for pair in found])


def _tulu_rankings(data: Path, limit: int | None) -> list[dict[str, Any]]:
    found = []
    for row in rows(data, "preferences-multi-annotator/tulu_human_eval_pairs")[:limit]:
        models = list(row["completions"])
        texts = [row["completions"][model] for model in models]
        for said in row["annotations"]:
            first = models.index(said["preferred"]) if said["preferred"] != "tie" else 0
            tiers = [[0, 1]] if said["preferred"] == "tie" else [[first], [1 - first]]
            found.append({"prompt": row["prompt"], "completions": texts, "tiers": tiers,
                          "labeler": said["annotator"]})  # fmt: skip
    return found


# -- both sides --------------------------------------------------------------------------------


def accord_scores(
    base: Base, learn: Sequence[Comparison], test: Sequence[Comparison], given: argparse.Namespace, out: Path
) -> dict[str, Any]:
    """Train on ``learn``, save in ``out``, score both sides of each pair of ``test``."""
    clock, cpu = time.perf_counter(), time.process_time()
    classifier = load(base, given)
    own = {"holdout": 0.05, "batch_prompts": 16, **getattr(given, "accord_settings", {})}
    config = RewardConfig(**{**_settings(base, given), **own})
    steps = max(1, len(learn) // (16 * 10))

    def progress(row: dict[str, float]) -> None:
        if row["step"] % steps == 0:
            say(f"    {row['step']:.0f}/{row['steps']:.0f}: {row['loss']:.3f}, {row.get('accuracy', 0):.2f}")

    model, report = train(learn, classifier, config, progress)
    took = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    model.save(out)
    scored = score_groups(model, [(pair.prompt, (pair.chosen, pair.rejected)) for pair in test])
    return {
        "scores": [[score.value for score in group] for group in scored],
        "truncated": report.truncated,
        **took,
    }


def load(base: Base, given: argparse.Namespace) -> SequenceClassifier:
    """The base with one label, reading prompt and reply as an HH transcript."""
    return SequenceClassifier.load(base.path, labels=1, template=Template.HH, max_length=given.max_length)


def _settings(base: Base, given: argparse.Namespace) -> dict[str, Any]:
    return {
        "epochs": given.epochs,
        "learning_rate": base.learning_rate,
        "max_length": given.max_length,
        "seed": given.seed,
    }


def trl_scores(
    base: Base, learn: Sequence[Comparison], test: Sequence[Comparison], given: argparse.Namespace
) -> dict[str, Any]:
    """The same by TRL, in its own environment, from the same folder and token ids."""
    reader = load(base, given)

    def ids(pairs: Sequence[Comparison]) -> list[list[tuple[int, ...]]]:
        return [[reader.encode(p.prompt, c.text).ids for c in (p.chosen, p.rejected)] for p in pairs]

    steps = given.epochs * -(-len(learn) // 16)
    settings = {**_settings(base, given), "threads": given.threads, "batch": 16, "centering": 0.01,
                "warmup_steps": max(1, steps // 20)}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "question.json", Path(folder) / "answer.json"
        asked = {"base": str(base.path), "train": ids(learn), "test": ids(test), "settings": settings}
        question.write_text(json.dumps(asked))
        threads = {"OMP_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "false"}
        command = [str(PEER), str(HERE / "_trl_reward.py"), str(question), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
        if done.returncode:
            raise SystemExit(f"_trl_reward.py failed:\n{done.stderr[-4000:]}")
        return json.loads(answer.read_text())


def length_scores(learn: Sequence[Comparison], test: Sequence[Comparison]) -> Scores:
    """Length in characters as the score, its sign chosen on ``learn``."""
    gaps = [np.sign(len(pair.chosen.text) - len(pair.rejected.text)) for pair in learn]
    sign = 1.0 if sum(gaps) >= 0 else -1.0
    return [[sign * len(side.text) for side in (pair.chosen, pair.rejected)] for pair in test]


# -- the parts ---------------------------------------------------------------------------------


def hh(given: argparse.Namespace, cache: Path, bases: Sequence[Base]) -> dict[str, Any]:
    """HH harmless, from each base."""
    pairs = hh_pairs(given.data, given.hh_pairs)
    extract = hh_extract(given.data, given.extract_pairs, set(pairs.clusters))
    test = pairs.comparisons
    out: dict[str, Any] = {"extract_pairs": len(extract), "test_pairs": len(test)}
    for base in bases:
        say(f"hh from {base.name}: {len(extract)} pairs of the extract, tested on {len(test)}")
        made_from = [base.name, base.learning_rate, _ids(extract), _common(given)]
        folder = cached(cache, f"hh-{base.name}", made_from, _saved(base, extract, test, given))
        ours = json.loads((folder / "result.json").read_text())
        theirs = _peer(given, cache, f"hh-trl-{base.name}", (base, extract, test))
        tuned = Base(f"{base.name}-tuned", folder / "model", base.learning_rate / 2)
        out[base.name] = {
            "extract_only": beside(pairs, list(range(len(test))), ours, length_scores(extract, test), theirs),
            "cross_validated": crossed(tuned, pairs, given, cache, peer_folds=0),
        }
    return out


def tulu(given: argparse.Namespace, cache: Path, bases: Sequence[Base]) -> dict[str, Any]:
    """Tulu's human pairs, from each base."""
    pairs = tulu_pairs(tulu_feedback(given.data, given.tulu_pairs))
    out: dict[str, Any] = {"pairs": len(pairs.comparisons), "prompts": len(set(pairs.clusters))}
    for base in bases:
        say(f"tulu from {base.name}: {len(pairs.comparisons)} pairs")
        out[base.name] = crossed(base, pairs, given, cache, peer_folds=given.trl_folds)
    return out


def crossed(
    base: Base, pairs: Pairs, given: argparse.Namespace, cache: Path, peer_folds: int
) -> dict[str, Any]:
    """Test scores of every fold put together; TRL beside it on the folds it was run on."""
    tested: list[int] = []
    ours: dict[str, Any] = {"scores": [], "seconds": 0.0, "cpu_seconds": 0.0}
    theirs: dict[str, Any] = {"scores": [], "seconds": 0.0, "cpu_seconds": 0.0}
    length: Scores = []
    for number in range(given.folds):
        at, inside = pairs.fold(number)
        learn, test = ([pairs.comparisons[i] for i in part] for part in (at, inside))
        name = f"fold-{number}-{base.name}"
        say(f"  {name}: {len(learn)} pairs, tested on {len(test)}")
        made_from = [base.name, str(base.path), base.learning_rate, _ids(learn), _common(given)]
        folder = cached(cache, name, made_from, _saved(base, learn, test, given, keep=False))
        found = [(ours, json.loads((folder / "result.json").read_text()))]
        if number < peer_folds:
            found.append((theirs, _peer(given, cache, f"trl-{name}", (base, learn, test))))
        for side, result in found:
            for key in side:
                side[key] += result[key] if result else []
        tested += inside
        length += length_scores(learn, test)
    return {"folds": given.folds, **beside(pairs, tested, ours, length, theirs)}


def _saved(
    base: Base, learn: Sequence[Comparison], test: Sequence[Comparison], given: argparse.Namespace,
    *, keep: bool = True,
) -> Any:  # fmt: skip
    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            out = folder / "model" if keep else Path(scratch)
            (folder / "result.json").write_text(json.dumps(accord_scores(base, learn, test, given, out)))

    return make


def _peer(
    given: argparse.Namespace, cache: Path, name: str, work: tuple[Base, list[Comparison], list[Comparison]]
) -> Any:
    """TRL's scores, or None where it was not asked for."""
    if not given.trl_folds:
        return None
    base, learn, test = work
    made_from = ["trl", base.name, base.learning_rate, _ids(learn), _ids(test), _common(given)]
    say(f"  TRL on the same {len(learn)} pairs")
    return remembered(cache, name, made_from, lambda: trl_scores(base, learn, test, given))


def _ids(pairs: Sequence[Comparison]) -> str:
    return digest([(p.prompt.id, p.chosen.text, p.rejected.text, p.p_chosen) for p in pairs])


def _common(given: argparse.Namespace) -> list[Any]:
    return [given.epochs, given.max_length, given.seed, given.decoder_steps]


# -- figures -----------------------------------------------------------------------------------


def beside(pairs: Pairs, tested: list[int], ours: Any, length: Scores, theirs: Any) -> dict[str, Any]:
    """Accuracies with intervals by cluster; TRL's with ours on exactly the pairs it scored."""
    clusters = [pairs.clusters[i] for i in tested]
    mine, short = right(ours["scores"]), right(length)
    out: dict[str, Any] = {
        "n": len(tested),
        "clusters": len(set(clusters)),
        "accord": _interval(mine, clusters),
        "length_only": _interval(short, clusters),
        "accord_minus_length": _interval(mine - short, clusters),
        "accord_cpu_seconds": round(ours["cpu_seconds"], 1),
    }
    if theirs and theirs["scores"]:
        other = right(theirs["scores"])
        n = len(other)
        out |= {
            "trl_n": n,
            "trl": _interval(other, clusters[:n]),
            "accord_same_pairs": _interval(mine[:n], clusters[:n]),
            "accord_minus_trl": _interval(mine[:n] - other, clusters[:n]),
            "trl_cpu_seconds": round(theirs["cpu_seconds"], 1),
        }
    return out


def right(scores: Scores) -> np.ndarray:
    """1 where the chosen side scores above the other, a half where they are equal."""
    return np.array([(np.sign(chosen - rejected) + 1) / 2 for chosen, rejected in scores])


def _interval(values: np.ndarray, clusters: list[str]) -> dict[str, float]:
    found: Interval = clustered_mean(values, clusters, np.random.default_rng(0))
    return {"value": found.value, "low": found.low, "high": found.high}
