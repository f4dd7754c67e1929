"""The report of reward models trained on real people's judgements, beside TRL's RewardTrainer.

    scripts/setup-trl-env && python benchmarks/reward_study.py --data FOLDER

From all-MiniLM-L6-v2, on four public sets (hh-rlhf harmless, Tulu, PandaLM, SQuALITY): accuracy on pairs
whose prompts (stories, with SQuALITY) were never trained on, the human ceiling, what length and style alone
reach, calibration, and TRL on the same splits, token ids, seed and epochs. Hh-rlhf is trained on its extract
and tested on the test file; the others are in five folds, put together.

Scores are kept in --cache, so that a run that was stopped goes on. Progress goes to stderr; the last line of
stdout is one JSON object. --quick runs everything at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from _real_models import cached, remembered, say
from _real_rewards import PEER, Base, _common, _ids, _saved, trl_scores
from _study_data import Judgements, load
from accord.judgements import Comparison
from accord.recipes.record import plain
from accord.reward.judged import judged as judge_values
from accord.reward.study import Study, study
from accord.reward.style import fit_style
from accord.stats.intervals import clustered_mean
from real_feedback import minilm_folder

ROOT = Path(__file__).resolve().parent.parent
SETS = "hh:1:1,tulu:5:1,pandalm:4:2,squality:5:1"
"""Names with the number of folds, of five, and of those that TRL is run on too."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Sizes and places; --quick overrides the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    cache = Path(tempfile.gettempdir()) / "accord-real-feedback"
    parser.add_argument("--cache", type=Path, default=cache, help="what is kept")
    parser.add_argument("--sets", default=SETS, help="each as NAME:FOLDS:FOLDS OF TRL, of five")
    parser.add_argument("--accord-epochs", type=int, help="accord's alone, in place of the set's own")
    parser.add_argument("--no-trl", action="store_true")
    parser.add_argument("--extract-pairs", type=int, default=2000, help="of hh-rlhf's train extract")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args(argv)
    given.limit, given.decoder_steps = None, 400  # the second is a part of the keys of what is kept
    if given.quick:
        given.limit, given.extract_pairs = 24, 24
    return given


@dataclass
class Tested:
    """Scores of pairs that were not trained on, in the order they were tested."""

    learned: list[list[Comparison]] = field(default_factory=list)
    """By fold: what was trained on."""
    tested: list[list[int]] = field(default_factory=list)
    """By fold: positions among the set's pairs."""
    ours: list[list[float]] = field(default_factory=list)
    theirs: list[list[float]] = field(default_factory=list)
    """TRL's, of the folds it was run on, which are the first ones."""
    cpu_seconds: dict[str, float] = field(default_factory=lambda: {"accord": 0.0, "trl": 0.0})


def splits(judged: Judgements, folds: int) -> list[tuple[list[Comparison], list[int]]]:
    """(what to train on, positions to test on), by fold."""
    pairs = judged.pairs.comparisons
    if judged.learn is not None:
        return [(judged.learn, list(range(len(pairs))))]
    found = [judged.pairs.fold(number) for number in range(folds)]
    return [([pairs[i] for i in at], inside) for at, inside in found]


def score(judged: Judgements, base: Base, given: argparse.Namespace) -> Tested:
    """Both sides' scores on every fold, from the cache where they were made before."""
    own = argparse.Namespace(**vars(given))
    own.epochs, own.max_length = judged.epochs, judged.max_length
    # hh-rlhf and Tulu keep the batches, and so the keys, of real_feedback.py
    plain = judged.learn is not None or judged.name == "Tulu"
    own.accord_settings = {} if plain else {"batch_prompts": judged.batch_prompts}
    if given.accord_epochs:
        own.accord_settings["epochs"] = given.accord_epochs
    found = Tested()
    for number, (learn, at) in enumerate(splits(judged, given.folds)):
        test = [judged.pairs.comparisons[i] for i in at]
        say(f"{judged.name}, part {number}: {len(learn)} pairs, tested on {len(test)}")
        name = "hh-minilm" if judged.learn is not None else f"fold-{number}-minilm"
        made_from = [base.name, base.learning_rate, _ids(learn), _common(own)]
        if judged.learn is None:
            made_from.insert(1, str(base.path))
        made_from += [own.accord_settings] if own.accord_settings else []
        folder = cached(given.cache, name, made_from, _saved(base, learn, test, own, keep=False))
        result = json.loads((folder / "result.json").read_text())
        found.learned.append(learn)
        found.tested.append(at)
        found.ours += result["scores"]
        found.cpu_seconds["accord"] += result["cpu_seconds"]
        if number < given.trl_folds:
            peer = _peer(name, base, learn, test, own)
            found.theirs += peer["scores"]
            found.cpu_seconds["trl"] += peer["cpu_seconds"]
    return found


def _peer(
    name: str, base: Base, learn: list[Comparison], test: list[Comparison], own: argparse.Namespace
) -> dict[str, Any]:
    name = "hh-trl-minilm" if name == "hh-minilm" else f"trl-{name}"
    made_from = ["trl", base.name, base.learning_rate, _ids(learn), _ids(test), _common(own)]
    return remembered(own.cache, name, made_from, lambda: trl_scores(base, learn, test, own))


def report(judged: Judgements, found: Tested, accord_epochs: int | None = None) -> dict[str, Any]:
    """The study of accord's model, and TRL's figures on the pairs it scored, beside accord's on the same.

    Without texts: the surest mistakes are read in `accord study`, and the data are not ours to print.
    """
    order = [i for at in found.tested for i in at]
    pairs = [judged.pairs.comparisons[i] for i in order]
    clusters = {judged.pairs.comparisons[i].prompt.id: judged.pairs.clusters[i] for i in order}
    style_P = np.concatenate(
        [
            fit_style(learn).differences([judged.pairs.comparisons[i] for i in at])
            for learn, at in zip(found.learned, found.tested, strict=True)
        ]
    )
    held = judge_values(pairs, found.ours, clusters=clusters)
    rankings = judged.rankings if judged.whole else ()
    whole = study(held, rankings=rankings, style_P=style_P)
    out = {
        "apart": judged.apart, "folds": len(found.tested),
        "epochs": {"accord": accord_epochs or judged.epochs, "trl": judged.epochs},
        "max_length": judged.max_length, "trained_on": len(found.learned[0]), "study": figures(whole),
        "cpu_seconds": {side: round(value, 1) for side, value in found.cpu_seconds.items()},
    }  # fmt: skip
    if found.theirs:
        n = len(found.theirs)
        same, theirs = (judge_values(pairs[:n], x[:n], clusters=clusters) for x in (found.ours, found.theirs))
        gap = clustered_mean(same.right_P - theirs.right_P, same.clusters, np.random.default_rng(0))
        out["beside_trl"] = {
            "pairs": n,
            "trl": figures(study(theirs, rankings=rankings, style_P=style_P[:n])),
            "accord_same_pairs": figures(study(same, rankings=rankings, style_P=style_P[:n])),
            "accord_minus_trl": {"value": gap.value, "low": gap.low, "high": gap.high},
        }
    return out


def figures(found: Study) -> dict[str, Any]:
    """The study without its texts."""
    kept = plain(found)
    kept["mistakes"] = len(found.mistakes)
    return kept


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if not given.data.is_dir():
        raise SystemExit(f"no data at {given.data}; set ACCORD_DATA or --data to its folder")
    if not given.no_trl and not PEER.exists():
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or pass --no-trl")
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    base = Base("minilm", minilm_folder(), 5e-5)
    result: dict[str, Any] = {"benchmark": "reward_study", "quick": given.quick}
    for asked in given.sets.split(","):
        name, folds, trl_folds = asked.split(":")
        (judged,) = load(given.data, [name], given.limit, given.extract_pairs)
        given.folds, given.trl_folds = int(folds), 0 if given.no_trl else int(trl_folds)
        say(f"{judged.name}: the report")
        result[judged.name] = report(judged, score(judged, base, given), given.accord_epochs)
    print(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main()
