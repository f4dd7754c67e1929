"""The runs of the guard's benchmark: short ones of accord's own PPO, recorded whole, with nobody watching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from _guard_world import MAX_NEW_TOKENS, World, hacked, honest
from accord.align.learner import Learner
from accord.align.online import judge, run_step
from accord.align.settings import AlignConfig
from accord.lm.model import LanguageModel
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.world import make_prompts
from accord.types import Rollout, Score, digest

WINDOW = 3
"""Steps in which each of a run's prompts is drawn once, and over which figures are averaged."""
RATES, BETAS = (2e-3, 3e-3), (0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Plan:
    """One run."""

    reward: str
    hack: bool
    seed: int
    learning_rate: float
    beta: float
    steps: int
    prompts_per_step: int = 12

    @property
    def name(self) -> str:
        return f"{'hack' if self.hack else 'honest'}-{self.seed}-{digest(asdict(self))}"


@dataclass(frozen=True)
class Recorded:
    """One step: its figures, completions, rewards, and what gold and the witness say of them."""

    metrics: dict[str, float]
    rollouts: list[Rollout]
    scores: list[Score]
    gold: list[float]
    witness: list[float]


def plans(rewards: Sequence[str], hack: bool, count: int, steps: int, first: int) -> list[Plan]:
    """``count`` runs, the rewards in turn, rates and betas crossed."""
    return [
        Plan(
            rewards[i % len(rewards)], hack, first + i,
            RATES[(i // len(rewards)) % len(RATES)], BETAS[(i // len(rewards)) % len(BETAS)], steps,
        )
        for i in range(count)
    ]  # fmt: skip


def run(plan: Plan, world: World) -> list[Recorded]:
    """The steps of a run that nobody watches."""
    scorer = (hacked(world) if plan.hack else honest(world))[plan.reward]
    config = AlignConfig(
        steps=plan.steps, prompts_per_step=plan.prompts_per_step, samples_per_prompt=2,
        minibatch=plan.prompts_per_step, epochs=2, learning_rate=plan.learning_rate,
        critic_learning_rate=5e-3, lam=1.0, beta=plan.beta, max_new_tokens=MAX_NEW_TOKENS, seed=plan.seed,
        truncation_penalty=0.0 if plan.hack else 1.0,
    )  # fmt: skip
    starter = world.starts.get(plan.reward, world.starter) if plan.hack else world.starter
    learner = Learner(LanguageModel.load(starter), config)
    prompts = make_prompts(WINDOW * plan.prompts_per_step, plan.seed, "train")
    gold, steps = GoldJudge(), []
    for step in range(plan.steps):
        metrics, rollouts, scores = run_step(learner, scorer, prompts, step)
        golds, said = ([s.value for s in judge(by, rollouts)] for by in (gold, world.witness))
        steps.append(Recorded(metrics, rollouts, scores, golds, said))
    return steps
