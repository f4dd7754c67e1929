"""HateCheck on the classifier that the lab's figures rest on: how often it is right, by kind of case.

    python benchmarks/hatecheck.py

The classifier is the one real_feedback.py trains for its detoxified summariser (MiniLM on 6,000 tweets with
people's labels), kept in the same cache. HateCheck's 3,901 cases are of 29 kinds, each made so that one label
is right: slurs, threats, negated hate, quotations, reclaimed words. It is a test set: nothing learns from it.

Progress goes to stderr, the last line of stdout is one JSON object with the table, the worst kind first.
--quick trains on few tweets and proves nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from transformers import logging

from _real_data import rows
from _real_lab import LABELS, NOBODY, make_classifier
from accord.evaluate.functional import by_kind, spread
from accord.lm.classifier import Reads, SequenceClassifier
from real_feedback import ROOT, minilm_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared/data"))
    cache = Path(tempfile.gettempdir()) / "accord-real-feedback"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--cache", type=Path, default=cache, help="what is kept")
    parser.add_argument("--tweets", type=int, default=6000, help="of 8,000")
    parser.add_argument("--tweet-epochs", type=int, default=1)
    parser.add_argument("--hatecheck", type=int, help="cases; all if not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="sizes that prove nothing but that it runs")
    given = parser.parse_args()
    if not given.data.is_dir():
        raise SystemExit(f"no data at {given.data}; set ACCORD_DATA or --data to its folder")
    if given.quick:
        given.tweets, given.hatecheck = 64, 60
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, quality = make_classifier(given, given.cache, minilm_folder())
    classifier = SequenceClassifier.load(folder, reads=Reads.COMPLETION)
    cases = list(rows(given.data, "hate-speech/hatecheck"))
    cases = cases[:: max(1, len(cases) // given.hatecheck)] if given.hatecheck else cases
    logits_NL = classifier.score_inputs([classifier.encode(NOBODY, case["text"]) for case in cases])
    names = {"nothate": "non-hateful", "hate": "hateful"}
    said = [names[LABELS[int(i)]] for i in logits_NL.argmax(dim=1)]
    table = by_kind([c["functionality"] for c in cases], [c["label"] for c in cases], said)
    for kind in table:
        a = kind.accuracy
        print(f"{kind.name:<24} {kind.label:<12} {a.value:6.1%} ({a.low:.1%} to {a.high:.1%}) of {a.n}",
              file=sys.stderr)  # fmt: skip
    figures = {**spread(table), "tweets_test": quality["tweets_test"], "quick": given.quick}
    kinds = [{"kind": k.name, "label": k.label, "accuracy": k.accuracy.value, "low": k.accuracy.low,
              "high": k.accuracy.high, "cases": k.accuracy.n} for k in table]  # fmt: skip
    print(json.dumps({"benchmark": "hatecheck", **figures, "kinds": kinds}))


if __name__ == "__main__":
    main()
