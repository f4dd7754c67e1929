"""A whole run of Q-learning: steps, figures, samples, and checkpoints that hold the memory too.

What a step draws is a function of seed and step, and all that a step changes is in the checkpoint: the
weights, the target net, the optimiser, the count of updates and the remembered episodes. So a run that was
killed goes on to the same bits.

Left out: the guard. Its signals need a reference, and values have none; the figures a step writes show the
pay and the values, and ``samples.jsonl`` what is said for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from accord.align.episodes import play
from accord.align.interrupt import interruptible
from accord.align.online import act, draw, judge
from accord.align.qlearning import QConfig, QLearner, Sample, learn_q
from accord.align.samples import cut_samples, record_samples
from accord.align.settings import AlignConfig
from accord.environment import Environment
from accord.errors import ConfigError, DataError
from accord.lm import checkpoints
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.types import Prompt, Rollout, Score, Scorer, Stop, digest

Metrics = dict[str, float]


@dataclass(frozen=True)
class QResult:
    """The trained learner, every step's figures, and whether all steps were done."""

    learner: QLearner
    history: list[Metrics]
    finished: bool
    """False after Ctrl-C; ``resume`` goes on."""


def qlearn(
    policy: LanguageModel,
    scorer: Scorer | None,
    prompts: Sequence[Prompt],
    config: QConfig,
    folder: str | Path,
    *,
    environment: Environment | None = None,
    resume: bool = False,
    save_every: int = 10,
    progress: Callable[[Metrics], None] = lambda _: None,
) -> QResult:
    """Train ``policy`` in place by Q-learning; figures, samples and checkpoints go to ``folder``.

    With an ``environment`` each prompt begins an episode with it (``align.episodes``); it pays, and a scorer
    may judge the episodes besides, or be ``None``. Ctrl-C ends the run after the step under way, with a
    checkpoint. Figures: ``reward``, ``length`` and ``truncated`` of the step's episodes, and those of
    ``align.qlearning.learn_q``.

    Raises:
        DataError: no prompts, or one that is empty or does not fit the context.
        ConfigError: ``folder`` holds a run and ``resume`` was not asked for; or nothing pays.
        StoreError: the run to resume was made from another model, with other settings or prompts.
        NumericsError: a reward, loss or gradient is not finite; the last checkpoint stands.
    """
    if not prompts:
        raise DataError("no prompts to learn on; import some, or choose another split")
    if save_every < 1:
        raise ConfigError(f"save_every is {save_every}; a checkpoint is written every 1 or more steps")
    if scorer is None and environment is None:
        raise ConfigError("neither a scorer nor an environment: nothing would be learned; give one of them")
    sample = act if environment is None else partial(play, environment=environment)
    learner = QLearner(policy, config)
    for prompt in prompts:  # a prompt too long is refused now, not hours later when it is drawn
        learner.engine(0).encode(prompt)
    mark = digest(policy.weights_hash(), policy.adapter_hash(), config.model_dump(), [p.id for p in prompts])
    folder = Path(folder)
    saved = checkpoints.take_up(folder, mark, resume, "prompts")
    history = _begin(folder, learner, prompts, saved)
    hasten(policy)
    # Drawing is that of the other algorithms, which asks for their settings.
    drawing = AlignConfig(prompts_per_step=config.prompts_per_step, minibatch=1, seed=config.seed)
    with interruptible() as interrupted, (folder / "metrics.jsonl").open("a") as log:
        for step in range(len(history), config.steps):
            drawn = draw(prompts, step, drawing)
            rollouts = sample(learner.engine(step), drawn, config.samples_per_prompt, step)
            scores = [Score(0.0)] * len(rollouts) if scorer is None else judge(scorer, rollouts)
            learned = learn_q(learner, rollouts, scores, step)
            paid = [replace(s, value=s.value + sum(r.paid)) for s, r in zip(scores, rollouts, strict=True)]
            history.append({"step": step + 1, "steps": config.steps, **_figures(rollouts, paid), **learned})
            record_samples(folder, step + 1, rollouts, paid)
            log.write(json.dumps(history[-1]) + "\n")
            log.flush()
            progress(history[-1])
            last = interrupted.is_set() or step + 1 == config.steps
            if last or (step + 1) % save_every == 0:
                _save(folder, learner, history, prompts, mark)
            if last:
                break
    return QResult(learner, history, len(history) == config.steps)


def _figures(rollouts: Sequence[Rollout], paid: Sequence[Score]) -> Metrics:
    count = len(rollouts)
    return {
        "reward": sum(score.value for score in paid) / count,
        "length": sum(sum(rollout.mask) for rollout in rollouts) / count,
        "truncated": sum(rollout.stop is Stop.LENGTH for rollout in rollouts) / count,
    }


# -- checkpoints -------------------------------------------------------------------------------


def _begin(
    folder: Path, learner: QLearner, prompts: Sequence[Prompt], saved: checkpoints.Checkpoint | None
) -> list[Metrics]:
    """Put what was saved into the learner, and the logs where it left off."""
    history: list[Metrics] = []
    if saved is not None:
        saved.put_into(_tensors(learner))
        learner.optimiser.load_state_dict(saved.optimiser)
        learner.updates = saved.state["updates"]
        learner.memory = [
            [_remembered(row, prompts) for row in remembered] for remembered in saved.state["memory"]
        ]
        history = saved.state["history"]
    log = folder / "metrics.jsonl"
    draft = log.with_suffix(".draft")  # steps after the checkpoint are done again: no line may stand twice
    draft.write_text("".join(json.dumps(row) + "\n" for row in history))
    draft.replace(log)
    cut_samples(folder, len(history))
    return history


def _save(
    folder: Path, learner: QLearner, history: Sequence[Metrics], prompts: Sequence[Prompt], mark: str
) -> None:
    places = {prompt.id: place for place, prompt in enumerate(prompts)}
    state = {
        "history": list(history),
        "fingerprint": mark,
        "updates": learner.updates,
        "memory": [[_plain(sample, places) for sample in remembered] for remembered in learner.memory],
    }
    checkpoints.write(folder, len(history), _tensors(learner), learner.optimiser.state_dict(), state)


def _tensors(learner: QLearner) -> dict[str, Tensor]:
    """What a step changes, sharing memory with the learner."""
    trained, behind = learner.policy.trained(), dict(learner.target.net.named_parameters())
    found = {f"policy.{name}": tensor for name, tensor in trained.items()}
    return found | {f"target.{name}": behind[name].detach() for name in trained}


_FIELDS = [f.name for f in fields(Rollout) if f.name not in ("prompt", "kept", "states")]
"""Of a rollout, what JSON holds as it is."""


def _plain(sample: Sample, places: Mapping[str, int]) -> dict[str, Any]:
    """An episode as JSON, its prompt by its place among the run's."""
    rollout, score = sample
    row = {name: getattr(rollout, name) for name in _FIELDS}
    return row | {"prompt": places[rollout.prompt.id], "score": score}


def _remembered(row: Mapping[str, Any], prompts: Sequence[Prompt]) -> Sample:
    """The episode that :func:`_plain` wrote."""
    values: dict[str, Any] = {
        name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in _FIELDS
    }
    values["stop"] = Stop(row["stop"])
    return Rollout(prompt=prompts[row["prompt"]], **values), row["score"]
