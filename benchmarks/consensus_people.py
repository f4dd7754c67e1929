"""Agreement and consensus of real people: is a person's judgement foretold by the others', a truth found?

    python benchmarks/consensus_people.py --data FOLDER

Four sets whose labelers have names (summaries, pairs of answers, tastes at breakfast): the pool's agreement,
and each labeler held out in turn, the consensus of the others beside majority vote and Borda counts. One
crowd without names on tasks of known order: accuracy by the number of ballots. The data are public sets
kept outside of the repository (default $ACCORD_DATA, else ../shared/data). Progress goes to stderr; the
last line of stdout is one JSON object. --quick runs everything at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from _held_out import against_truth, held_out
from _people_data import FOLDER, Crowd, People, load, mturk
from accord.judgements import Ranking
from accord.stats.agreement import agreement
from accord.stats.consistency import leave_one_out_tau

ROOT = Path(__file__).resolve().parent.parent
SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstraps")
    parser.add_argument("--seeds", type=int, default=25, help="draws of ballots for each size of crowd")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if not (given.data / FOLDER).is_dir():
        raise SystemExit(f"no data at {given.data / FOLDER}; set ACCORD_DATA or --data to its folder")
    started = time.monotonic()
    sets = {name: one_set(name, people, given) for name, people in load(given.data).items()}
    crowd = one_crowd(mturk(given.data), given)
    result = {"benchmark": "consensus_people", "quick": given.quick, "sets": sets, "crowd": crowd,
              "settings": {"seed": given.seed, "seeds": given.seeds},
              "seconds": round(time.monotonic() - started, 1)}  # fmt: skip
    print(json.dumps(rounded(result), allow_nan=False))


def one_set(name: str, people: People, given: argparse.Namespace) -> dict[str, Any]:
    """Agreement of the pool, and the others' say on each held-out labeler."""
    say(f"{name}: {len(people.rankings)} rankings")
    rng = np.random.default_rng(given.seed)
    found = {
        **sizes(people.rankings),
        "agreement": pool(people.rankings, rng),
        "held_out": held_out(people, rng, 2 if given.quick else None),
    }
    difference = found["held_out"]["consensus_minus_majority"]
    say(f"{name}: consensus less majority {difference['value']:+.4f} "
        f"[{difference['low']:+.4f}, {difference['high']:+.4f}]")  # fmt: skip
    return found


def one_crowd(crowd: Crowd, given: argparse.Namespace) -> dict[str, Any]:
    """Agreement of all ballots, each a labeler of its own, and what a sample of them finds."""
    everyone = crowd.draw(max(map(len, crowd.ballots.values())), np.random.default_rng(given.seed))
    say(f"crowd: {len(everyone)} ballots")
    return {
        **sizes(everyone),
        "agreement": pool(everyone, np.random.default_rng(given.seed), labelers=False),
        "by_ballots": against_truth(
            crowd, SIZES[:3] if given.quick else SIZES, 2 if given.quick else given.seeds
        ),
    }


def sizes(rankings: Sequence[Ranking]) -> dict[str, Any]:
    placed = [sum(map(len, (*r.tiers, r.fails))) for r in rankings]
    return {
        "prompts": len({r.prompt_id for r in rankings}),
        "labelers": len({r.labeler for r in rankings}),
        "rankings": len(rankings),
        "completions": max(placed),
    }


def pool(rankings: Sequence[Ranking], rng: np.random.Generator, labelers: bool = True) -> dict[str, Any]:
    """The pool's figures; of the leave-one-out taus the least, the median and the greatest."""
    figures: dict[str, Any] = asdict(agreement(rankings, rng, 2000))
    if labelers:
        taus = leave_one_out_tau(rankings, rng)
        known = sorted(f.interval.value for f in taus.values() if f.interval is not None)
        figures["leave_one_out_tau"] = {
            "least": known[0], "median": float(np.median(known)), "greatest": known[-1],
            "labelers": len(known), "undefined": len(taus) - len(known),
        }  # fmt: skip
    return figures


def rounded(value: Any) -> Any:
    """Floats to five places, so that the figures can be read and compared."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
