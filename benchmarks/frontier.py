"""Gold against KL of every algorithm on the help desk, beside TRL 1.12's PPO, RLOO, GRPO and DPO.

    scripts/setup-trl-env && python benchmarks/frontier.py --folder F --plot docs/figures/frontier.svg

The customers and the gold judge are simulated; the reward is one reward model a seed, trained on noiseless
comparisons of the starter's completions and the same for all. Each online run takes as many steps of as many
completions (prompts x samples), trains all weights of the packaged starter, and is looked at every few steps:
exact KL to the starter and mean gold of completions to prompts of the hold-out split. The offline ones
get as many completions of the starter as the online ones sample, as pairs of the best and the worst by the
reward. A cut completion is fined alike on both sides. Peers have accord's rate, minibatches and passes of the
same algorithm; what else differs stands in _trl_frontier.py.

Each run is a curve of gold over KL; compared is gold at fixed KL, on the smooth curve through its looks (a
run that never gets as far has none, and the table says how many did). Figures are means over seeds with
95 % t-intervals; differences to a peer are of the same seed. Runs are kept in --folder, so that one that
was stopped goes on. --only names some of them. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from _desk_rewards import STARTER, Pool, comparisons_of, kept, rewards, sample_pool
from _figures import t_interval
from accord.align.preference import PreferenceConfig, prefer
from accord.align.run import align
from accord.align.settings import AlignConfig
from accord.align.supervised import DistilConfig, distil
from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.divergence import completion_kl
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.render import prompt_text
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.world import make_prompts
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Prompt, score_groups

HERE = Path(__file__).parent
PEER = HERE.parent / ".venv-trl/bin/python"
ONLINE = ("ppo", "a2c", "reinforce", "reinforce-baseline", "reinforce++", "rloo", "grpo", "dr-grpo", "gspo",
          "cispo", "trpo", "nlpo")  # fmt: skip
OFFLINE = ("dpo", "ipo", "kto", "orpo", "simpo", "rft")
PEERS = {"trl ppo": "ppo", "trl rloo": "rloo", "trl grpo": "grpo", "trl dpo": "dpo"}
"""A peer, and whose settings it takes."""
RATES = {"a2c": 4e-4, "reinforce": 4e-4, "reinforce-baseline": 4e-4, "reinforce++": 4e-4, "rloo": 4e-4,
         "grpo": 4e-4, "dr-grpo": 4e-4, "gspo": 4e-4, "cispo": 4e-4}  # fmt: skip
"""Adam's rate where it is not 2e-4: one pass takes a larger one than two."""
DPO_BETA = 0.1


@dataclass(frozen=True)
class Amounts:
    """How much of everything."""

    steps: int = 24
    rollouts: int = 64
    """A step, all completions of all prompts."""
    look: int = 3
    """Steps between two looks at gold and KL."""
    held: int = 64
    """Prompts of the hold-out split, a completion each."""
    new_tokens: int = 48
    ranked: int = 200
    """Prompts behind the reward model."""
    epochs: int = 3
    """Passes of offline learning over its pairs."""


Point = dict[str, float]
Look = Callable[[LanguageModel], Point]


def main() -> None:
    given = arguments()
    amounts = Amounts(steps=2, rollouts=8, look=1, held=4, ranked=12, epochs=1) if given.quick else Amounts()
    torch.set_num_threads(given.threads)
    names = given.only.split(",") if given.only else [*ONLINE, *OFFLINE, *PEERS]
    curves: dict[str, list[list[Point]]] = {name: [] for name in names}
    for seed in range(given.seeds):
        world = World(seed, amounts, given.folder, given.threads)
        for name in names:
            started = time.monotonic()
            settings = [asdict(amounts), RATES.get(PEERS.get(name, name)), seed]
            curve = kept(given.folder, f"{name.replace(' ', '-')}-{seed}", settings, partial(world.run, name))
            curves[name].append(curve)
            last = curve[-1]
            say(f"seed {seed}, {name}: gold {curve[0]['gold']:.3f} -> {last['gold']:.3f} at KL "
                f"{last['kl']:.2f} ({time.monotonic() - started:.0f} s)")  # fmt: skip
    result = report(curves, given.at)
    if given.plot:
        draw(curves, given.plot)
    print(json.dumps({"benchmark": "frontier", "quick": given.quick, "seeds": given.seeds, **result}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--at", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="KL, nats a completion")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    return parser.parse_args()


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


# -- one seed's world ---------------------------------------------------------------------------


class World:
    """A seed's prompts and reward, and every run against them."""

    def __init__(self, seed: int, amounts: Amounts, folder: Path, threads: int) -> None:
        self.seed, self.amounts, self.threads = seed, amounts, threads
        self.folder = folder
        self.reward = self._reward()
        self.prompts = make_prompts(amounts.steps * amounts.rollouts, seed + 1000, "train")
        self.held = make_prompts(amounts.held, seed, "holdout")
        self.start = LanguageModel.load(STARTER)

    def _reward(self) -> RewardModel:
        """The reward model of this seed, trained or read from the folder."""
        seed, ranked = self.seed, self.amounts.ranked
        path = self.folder / f"reward-{seed}-{ranked}"
        if not (path / "done").exists():
            pool = sample_pool(make_prompts(ranked, seed, "train"), 4, seed)
            config = RewardConfig(learning_rate=1e-3, epochs=2, mixed_precision=True, seed=seed)
            model, report = train(
                comparisons_of(pool, 0.0, seed), SequenceClassifier.load(STARTER, labels=1), config
            )
            model.save(path)
            (path / "done").touch()
            say(f"seed {seed}: a reward model, {report.accuracy:.3f} right on held-out pairs")
        return RewardModel.load(path)

    def run(self, name: str) -> list[Point]:
        """The looks of a run, the first before any learning."""
        if name in PEERS:
            return self.peer(name)
        policy, curve = LanguageModel.load(STARTER), [self.look(self.start)]
        if name in ONLINE:
            self.online(name, policy, lambda: curve.append(self.look(policy)))
        else:
            self.offline(name, policy, lambda: curve.append(self.look(policy)))
        return curve

    def look(self, policy: LanguageModel) -> Point:
        """Exact KL to the starter, in nats a completion, and mean gold, on held-out prompts."""
        engine = Engine(policy, SamplingConfig(max_new_tokens=self.amounts.new_tokens, seed=self.seed))
        groups = engine.sample(self.held, 1)
        asked = [engine.encode(prompt) for prompt in self.held]
        kl, _, _ = completion_kl(policy, self.start, asked, [group[0].ids for group in groups])
        scored = list(zip(self.held, groups, strict=True))
        gold = [group[0].value for group in score_groups(GoldJudge(), scored)]
        proxy = [group[0].value for group in score_groups(self.reward, scored)]
        return {"kl": kl, "gold": float(np.mean(gold)), "reward": float(np.mean(proxy))}

    def online(self, name: str, policy: LanguageModel, look: Callable[[], None]) -> None:
        """A run of accord's; a look every few steps."""
        amounts, config = self.amounts, self.settings(name)
        with tempfile.TemporaryDirectory() as folder:
            align(policy, self.reward, self.prompts, config, folder, save_every=amounts.steps,
                  progress=lambda row: look() if row["step"] % amounts.look == 0 else None)  # fmt: skip

    def settings(self, name: str) -> AlignConfig:
        """An algorithm's: its own defaults, all weights, and the amounts of all."""
        amounts = self.amounts
        bare = AlignConfig(algorithm=name)
        samples, critic = bare.samples, {"critic_learning_rate": 5e-3, "lam": 1.0} if bare.row.critic else {}
        return AlignConfig(
            algorithm=name, steps=amounts.steps, prompts_per_step=amounts.rollouts // samples,
            minibatch=amounts.rollouts, epochs=2 if name in ("ppo", "nlpo") else None, lora_rank=0,
            learning_rate=RATES.get(name, 2e-4), beta=0.05, max_new_tokens=amounts.new_tokens,
            seed=self.seed, **critic,
        )  # fmt: skip

    def offline(self, name: str, policy: LanguageModel, look: Callable[[], None]) -> None:
        """A run of offline learning on what the starter said; a look every few steps."""
        amounts = self.amounts
        prompts, samples = self.asked()
        steps = amounts.epochs * len(prompts) // 16
        every = max(1, steps // (amounts.steps // amounts.look))
        seen = {"at": 0}

        def progress(row: dict[str, float]) -> None:
            seen["at"] += 1
            if seen["at"] % every == 0:
                look()

        shared = {
            "epochs": amounts.epochs, "batch_prompts": 16, "lora_rank": 0, "learning_rate": 2e-4,
            "holdout": 0.0, "kl_prompts": 0, "max_new_tokens": amounts.new_tokens, "seed": self.seed,
        }  # fmt: skip
        if name == "rft":
            distil(policy, self.reward, prompts, DistilConfig(**shared, samples=samples), progress=progress)
            return
        own = {"beta": DPO_BETA} if name == "dpo" else {}
        prefer(policy, self.pairs(), PreferenceConfig(algorithm=name, **shared, **own), progress=progress)

    def asked(self) -> tuple[list[Prompt], int]:
        """The prompts of offline learning, with four completions each: as many as an online run samples."""
        samples = 4
        return self.prompts[: self.amounts.steps * self.amounts.rollouts // samples], samples

    def pairs(self) -> list[Comparison]:
        """Best and worst of each prompt's completions by the reward, where they differ."""
        prompts, samples = self.asked()
        pool: Pool = kept(
            self.folder, f"offline-{self.seed}", asdict(self.amounts),
            lambda: sample_pool(prompts, samples, self.seed),
        )  # fmt: skip
        paid = rewards(self.reward, pool)
        best, worst = paid.argmax(1), paid.argmin(1)
        return [
            Comparison(prompt, group[b], group[w], source="reward")
            for prompt, group, b, w in zip(pool.prompts, pool.samples, best, worst, strict=True)
            if group[b].text != group[w].text
        ]

    def peer(self, name: str) -> list[Point]:
        """A run of TRL's in its own environment, looked at through the weights it leaves."""
        if not PEER.exists():
            raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or leave it out by --only")
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            self.reward.save(folder / "reward")
            (folder / "question.json").write_text(json.dumps(self.question(name)))
            threads = {"OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
            done = subprocess.run(
                [str(PEER), str(HERE / "_trl_frontier.py"), str(folder)],
                capture_output=True, text=True, env=os.environ | threads,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
            curve, policy = [self.look(self.start)], LanguageModel.load(STARTER)
            for path in sorted(folder.glob("look-*.pt")):
                policy.net.load_state_dict(torch.load(path, weights_only=True))
                curve.append(self.look(policy))
        return curve

    def question(self, name: str) -> dict[str, Any]:
        """What the peer is told."""
        amounts, model = self.amounts, self.start
        algorithm = PEERS[name]
        config = self.settings(algorithm) if algorithm in ONLINE else None
        prompts = self.prompts if config else [pair.prompt for pair in self.pairs()]
        engine = Engine(model, SamplingConfig(max_new_tokens=amounts.new_tokens))
        asked: dict[str, Any] = {
            "algorithm": algorithm,
            "base": str(STARTER),
            "amounts": asdict(amounts),
            "seed": self.seed,
            "threads": self.threads,
            "rate": RATES.get(algorithm, 2e-4),
            "mean": self.reward.mean,
            "std": self.reward.std,
            "prompts": [prompt_text(model.tokenizer, prompt, model.template) for prompt in prompts],
            "ids": [engine.encode(prompt) for prompt in prompts],
        }
        if config is not None:
            return asked | {"beta": config.beta, "passes": config.passes, "samples": config.samples}
        pairs = self.pairs()
        sides = {"chosen": [p.chosen.text for p in pairs], "rejected": [p.rejected.text for p in pairs]}
        return asked | sides | {"beta": DPO_BETA}


# -- what they come to --------------------------------------------------------------------------


def gold_at(curve: Sequence[Point], kl: float) -> float:
    """Gold at ``kl`` on the smooth curve through all looks of a run; NaN where it never got so far.

    gold = a + b d + c d^2 with d = sqrt(KL) by least squares (Gao et al. 2022, arXiv:2210.10760).
    """
    if max(point["kl"] for point in curve) < kl:
        return math.nan
    d_N = np.sqrt([max(0.0, point["kl"]) for point in curve])
    form_NC = np.stack([np.ones_like(d_N), d_N, d_N**2], axis=1)
    found_C = np.linalg.lstsq(form_NC, np.array([point["gold"] for point in curve]), rcond=None)[0]
    return float(found_C @ [1.0, math.sqrt(kl), kl])


def report(curves: dict[str, list[list[Point]]], at: Sequence[float]) -> dict[str, Any]:
    """Per run: gold at fixed KL over the seeds that reached it, where it ended, and against its peer."""
    found: dict[str, Any] = {}
    for name, seeds in curves.items():
        row: dict[str, Any] = {"start": float(np.mean([curve[0]["gold"] for curve in seeds]))}
        for kl in at:
            values = np.array([gold_at(curve, kl) for curve in seeds])
            row[f"gold_at_{kl:g}"] = interval(values)
            row[f"reached_{kl:g}"] = int(np.isfinite(values).sum())
            for peer in [p for p, ours in PEERS.items() if ours == name and p in curves]:
                other = np.array([gold_at(curve, kl) for curve in curves[peer]])
                row[f"less_{peer.replace(' ', '_')}_at_{kl:g}"] = interval(values - other)
        row["end"] = {key: interval([curve[-1][key] for curve in seeds]) for key in ("gold", "kl", "reward")}
        found[name] = row
    return {"runs": found, "curves": curves}


def interval(values: ArrayLike) -> dict[str, float | None] | None:
    """The t-interval of those that are there; None of fewer than two."""
    there = np.asarray(values)[np.isfinite(values)]
    return t_interval(there) if len(there) > 1 else None


def draw(curves: dict[str, list[list[Point]]], path: Path) -> None:
    """Each run's mean curve of gold over KL, the seeds' behind it, a peer's in the panel of its algorithm.

    KL stands at its root, at which gold rises nearly straight (Gao et al. 2022).
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    panels = [name for name in curves if PEERS.get(name) not in curves]
    columns = 6
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(12, 2.1 * rows), sharex=True, sharey=True, squeeze=False
    )
    for axis, name in zip(axes.flat, panels, strict=False):
        shown = [name, *(peer for peer in curves if PEERS.get(peer) == name)]
        for one in shown:
            colour = "#c2410c" if one in PEERS else "#0f766e"
            seeds = curves[one]
            for curve in seeds:
                axis.plot(
                    [p["kl"] for p in curve], [p["gold"] for p in curve], color=colour, lw=0.6, alpha=0.3
                )
            mean = [{key: np.mean([c[i][key] for c in seeds]) for key in ("kl", "gold")}
                    for i in range(min(map(len, seeds)))]  # fmt: skip
            axis.plot([p["kl"] for p in mean], [p["gold"] for p in mean], color=colour, lw=1.8,
                      label="TRL" if one in PEERS else "accord")  # fmt: skip
        if len(shown) > 1:
            axis.legend(fontsize=7, frameon=False, loc="lower right")
        axis.set_title(name, fontsize=9)
        axis.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axis.set_xticks([0, 0.5, 1, 2, 4, 8], ["0", "½", "1", "2", "4", "8"])
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("exact KL to the starter, nats a completion", fontsize=9)
    figure.supylabel("gold", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    main()
