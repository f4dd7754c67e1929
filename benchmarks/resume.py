"""Killed at random moments and resumed: is it the run that was never stopped, bit for bit?

Every algorithm, online, of values and offline, aligns a tiny model twice: once straight through, and once in
a process that is killed (SIGKILL) at a random moment after it began, and started again with resume, until it
ends; some are killed twice. Compared are the digests of the final policy, of the last checkpoint's files
(weights with critic, value heads and what lags behind, optimiser, remembered episodes and other state), of
metrics.jsonl, and of what the final policy samples.
Checkpoints are written every one to three steps, so steps are done again.

The last line is one JSON object: ``kills`` that struck a run under way, ``identical`` runs of those ``runs``,
and what differed. --quick: four algorithms, a kill each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from accord.align.ilql import ILQLConfig, ILQLearner
from accord.align.online import act, judge
from accord.align.preference import PreferenceConfig, prefer
from accord.align.qlearning import QConfig
from accord.align.qrun import qlearn
from accord.align.rows import ROWS
from accord.align.run import align
from accord.align.settings import AlignConfig
from accord.align.supervised import DistilConfig, distil
from accord.judgements import Comparison
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel, tensors_hash
from accord.lm.tiny import write_tiny
from accord.types import Completion, Prompt, Score

ONLINE = ("ppo", *ROWS)
VALUES = ("q-learning", "ilql")
OFFLINE = ("dpo", "ipo", "kto", "orpo", "simpo", "rft")
PROMPTS = [Prompt.from_text(text) for text in ("Hello", "Where is it?", "My parcel", "Thanks", "Why?", "No")]
STEPS = 10
OWN = {
    "ppo": {"critic_warmup": 1}, "a2c": {"critic": "own"}, "nlpo": {"mask_every": 4},
    "reinforce": {"reference": "ema"}, "grpo": {"reference": "reset", "reference_every": 4},
}  # fmt: skip
"""Settings that some algorithms take, so that each kind of state is killed and resumed once."""


class Vowels:
    """The share of vowels in a completion; simple, and different for nearly any two texts."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion."""
        return [Score(sum(letter in "aeiou" for letter in c.text) / (1 + len(c.text))) for c in completions]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="four kills")
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # before any work: children are forked, and threads do not survive that
    rng = random.Random(given.seed)
    names = ["ppo", "q-learning", "nlpo", "dpo"] if given.quick else [*ONLINE, *VALUES, *OFFLINE]
    wanted = 4 if given.quick else given.kills
    kills, differing, runs = 0, [], 0
    with tempfile.TemporaryDirectory() as place:
        base = {kind: write_tiny(Path(place) / kind, kind) for kind in ("llama", "t5")}
        straight: dict[Any, tuple[str, float]] = {}
        while kills < wanted:
            name = names[runs % len(names)]
            kind, every = rng.choice(("llama", "t5")), rng.choice((1, 2, 3))
            if (name, kind, every) not in straight:
                folder = Path(place) / "straight"
                began = time.perf_counter()
                finish(fork(lambda: run(name, base[kind], folder, every, resume=False)))  # noqa: B023
                straight[name, kind, every] = result(folder), time.perf_counter() - began
                shutil.rmtree(folder)
            whole, seconds = straight[name, kind, every]
            folder, struck = Path(place) / "cut", 0
            for _ in range(rng.choice((1, 1, 2))):
                child = fork(lambda: run(name, base[kind], folder, every, resume=True))  # noqa: B023
                time.sleep(rng.uniform(0.05, 1.0) * seconds)
                struck += stop(child)
            if struck:
                finish(fork(lambda: run(name, base[kind], folder, every, resume=True)))  # noqa: B023
                again = result(folder)
                kills, runs = kills + struck, runs + 1
                if again != whole:
                    differing.append({"algorithm": name, "model": kind, "whole": whole, "resumed": again})
                print(f"{runs}: {name} ({kind}), {struck} kill(s): {again == whole}", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
    found = {"benchmark": "resume", "quick": given.quick, "kills": kills, "runs": runs}
    print(json.dumps(found | {"identical": runs - len(differing), "differing": differing}))


def run(name: str, base: Path, folder: Path, every: int, *, resume: bool) -> None:
    """A run of an algorithm from its beginning, or from where it was killed."""
    policy = LanguageModel.load(base)
    resume = resume and folder.exists()
    if name in ONLINE:
        config = AlignConfig(
            algorithm=name, steps=STEPS, prompts_per_step=4, samples_per_prompt=2, minibatch=4, epochs=2,
            max_new_tokens=8, lora_rank=4, learning_rate=1e-2, kl_target=0.5, kl_horizon=50, seed=3,
            **OWN.get(name, {}),
        )  # fmt: skip
        align(policy, Vowels(), PROMPTS, config, folder, resume=resume, save_every=every)
    elif name == "q-learning":
        values = QConfig(
            steps=STEPS, prompts_per_step=4, samples_per_prompt=2, minibatch=6, memory=3, target_every=4,
            max_new_tokens=8, lora_rank=4, learning_rate=1e-2, seed=3,
        )  # fmt: skip
        qlearn(policy, Vowels(), PROMPTS, values, folder, resume=resume, save_every=every)
    elif name == "ilql":
        record = act(Engine(policy, SamplingConfig(max_new_tokens=8)), PROMPTS, 4)
        learner = ILQLearner(policy, ILQLConfig(updates=2 * STEPS, minibatch=8, lora_rank=4))
        learner.run(record, judge(Vowels(), record), folder, resume=resume, save_every=every)
        policy = learner.advised(8.0)
    elif name == "rft":
        settings = DistilConfig(rounds=3, samples=8, batch_prompts=2, lora_rank=4, max_new_tokens=48)
        distil(policy, Vowels(), PROMPTS, settings, folder=folder, resume=resume)
    else:
        config_of = PreferenceConfig(algorithm=name, epochs=4, batch_prompts=2, lora_rank=4, holdout=0.2)
        prefer(policy, comparisons(), config_of, folder=folder, resume=resume, save_every=every)
    engine = Engine(policy, SamplingConfig(max_new_tokens=8, seed=1))
    said = [c.text for group in engine.sample(PROMPTS, 2) for c in group]
    (folder / "end.json").write_text(json.dumps([tensors_hash(dict(policy.net.state_dict())), said]))


def comparisons() -> list[Comparison]:
    """A few pairs of each prompt."""
    texts = ["a nice answer", "another one", "no", "what do you mean"]
    return [
        Comparison(prompt, Completion(texts[i], id=f"{i}"), Completion(texts[i + 1], id=f"{i + 1}"), 0.9)
        for prompt in PROMPTS
        for i in range(3)
    ]


def result(folder: Path) -> str:
    """Digest of a finished run: final weights and samples, metrics, and the last checkpoint's tensors."""
    sha = hashlib.sha256((folder / "end.json").read_bytes())
    for path in sorted(folder.rglob("*.jsonl")):
        sha.update(path.read_bytes())
    for path in sorted(folder.rglob("checkpoint-*"))[-1:]:
        sha.update((path / "sums.json").read_bytes())  # of its weights, optimiser and state
    return sha.hexdigest()[:16]


def fork(task: Callable[[], None]) -> int:
    """Start ``task`` in a child; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        task()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def stop(child: int) -> bool:
    """Kill a child; whether it was still running."""
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run failed by itself; see above")
    return os.WIFSIGNALED(status)


def finish(child: int) -> None:
    """Wait for a child to end well."""
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a run failed by itself; see above")


if __name__ == "__main__":
    main()
