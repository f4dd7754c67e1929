"""A reward model's accuracy beside that of TRL 1.12's RewardTrainer, on the help desk's simulated labelers.

    scripts/setup-trl-env && python benchmarks/reward_accuracy.py

Both sides start from the same model and train one epoch of as many steps at the same rate (_desk_pairs.py);
accord on the consensus with its probabilities and FAIL (a tenth of the prompts held out), TRL on the
consensus's winners, all of them. Held-out prompts' pairs by gold. An epoch of TRL passes each completion
three times, so accord also has three epochs: accuracy_equal_passes. The last line is one JSON object.
--quick runs it all at sizes that prove nothing but that it runs; --no-peer leaves TRL out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _beside import PEER, run
from _desk_pairs import BASE, Desk, accuracy, desk, hard
from _figures import t_interval
from _real_models import say
from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from reward_labels import (
    LEARNING_RATE,
    OURS,
    OURS_AT_EQUAL_PASSES,
    PROMPTS_A_STEP,
    SMALL,
    kept,
    one,
    prompts_of,
)


def accuracies(given: argparse.Namespace) -> dict[str, Any]:
    """Both sides on each seed's judgements, with t-intervals over seeds."""
    ways = {"accuracy": OURS, "accuracy_equal_passes": OURS_AT_EQUAL_PASSES}
    if given.small_steps:
        ways = {"accuracy": SMALL[1]}
    ours: dict[str, list[float]] = {name: [] for name in ways}
    theirs: list[float] = []
    sizes = [given.ranked, given.tuned, given.held]
    for seed in range(given.seeds):
        data = desk(given.cache, seed, *sizes)
        for name, way in ways.items():
            ours[name].append(kept(given.cache, way, seed, sizes, partial(one, data, way, seed))["accuracy"])
        if not given.no_peer:
            name = "TRL, small steps" if given.small_steps else "TRL"
            peer = kept(given.cache, name, seed, sizes, partial(trl, data, seed, given))
            theirs.append(peer["accuracy"])
        say(f"seed {seed}: {[round(values[-1], 3) for values in ours.values()]} {theirs[-1:]}")
    found: dict[str, Any] = {}
    for name, values in ours.items():
        found |= {name: float(np.mean(values)), f"{name}_interval": t_interval(values)}
        if theirs:
            found[f"{name}_difference"] = t_interval(np.subtract(values, theirs))
    if theirs:
        found |= {"peer_accuracy": float(np.mean(theirs)), "peer_accuracy_interval": t_interval(theirs)}
    return found


def trl(data: Desk, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """TRL's accuracy on the pairs by gold, from the same base and as many steps."""
    reader = SequenceClassifier.load(BASE, labels=1)

    def ids(pairs: list[Comparison]) -> list[list[tuple[int, ...]]]:
        return [[reader.encode(c.prompt, x.text).ids for x in (c.chosen, c.rejected)] for c in pairs]

    learn = hard(data.comparisons)
    batch = max(1, round(PROMPTS_A_STEP * len(learn) / prompts_of(learn) / (2 if given.small_steps else 1)))
    settings = {
        "epochs": 1, "learning_rate": LEARNING_RATE, "max_length": reader.max_length, "seed": seed,
        "threads": given.threads, "batch": batch, "centering": 0.01,
        "warmup_steps": max(1, -(-len(learn) // batch) // 20),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "question.json", Path(folder) / "answer.json"
        asked = {"base": str(BASE), "train": ids(learn), "test": ids(data.by_gold), "settings": settings}
        question.write_text(json.dumps(asked))
        run(PEER, "_trl_reward.py", [str(question), str(answer)], given.threads)
        found = json.loads(answer.read_text())
    d_P = np.array([chosen - rejected for chosen, rejected in found["scores"]])
    return {"accuracy": accuracy(d_P), "seconds": found["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ranked", type=int, default=600)
    parser.add_argument("--tuned", type=int, default=100)
    parser.add_argument("--held", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/accord-reward-benchmarks"))
    parser.add_argument("--small-steps", action="store_true", help="twice the steps, both sides")
    parser.add_argument("--no-peer", action="store_true", help="accord alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.ranked, given.tuned, given.held = 2, 12, 4, 6
    if not (given.no_peer or PEER.exists()):
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or pass --no-peer")
    print(json.dumps({"benchmark": "reward_accuracy", "quick": given.quick, **accuracies(given)}))


if __name__ == "__main__":
    main()
