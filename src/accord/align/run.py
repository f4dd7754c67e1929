"""A run of alignment: steps, metrics, checkpoints, and the ways it may end.

Checkpoints (``lm.checkpoints``) hold all that a step changes: the training weights, the critic, what lags
behind the policy, the optimiser, beta, the state of a reward that adapts, and the history. Randomness is a
function of seed and step, so a run that was killed goes on from its last checkpoint to the same bits.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from accord.align.episodes import play
from accord.align.guard import Action, GuardConfig, Verdict, best_step, distrust, floor
from accord.align.interrupt import interruptible
from accord.align.kept import Kept
from accord.align.learner import Learner
from accord.align.online import act, judge, run_step
from accord.align.samples import cut_samples, record_samples
from accord.align.settings import AlignConfig
from accord.align.signals import Decode, shown, signals, watched
from accord.environment import Environment
from accord.errors import ConfigError, DataError, StoreError
from accord.lm import checkpoints
from accord.lm.critic import OwnCritic
from accord.lm.hasten import hasten
from accord.lm.heads import ValueHead
from accord.lm.model import LanguageModel
from accord.types import Adapts, Prompt, Rollout, Score, Scorer, digest

Metrics = dict[str, float]
WARNS = GuardConfig()
"""The guard that speaks and does nothing."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a disk says that takes no more."""
_LOG = logging.getLogger("accord.align")


class End(StrEnum):
    """Why a run ended."""

    STEPS = "all steps done"
    GUARD = "stopped by its rules"
    ROLLED_BACK = "rolled back by its guard"
    INTERRUPTED = "interrupted; --resume goes on"


@dataclass(frozen=True)
class Told:
    """A verdict of the guard on a run, after ``step``."""

    step: int
    action: Action
    reason: str
    example: str
    """The completion that was paid best in that step: where a reward is hacked, it shows how."""


@dataclass(frozen=True)
class AlignResult:
    """The trained learner, every step's metrics, and why it ended."""

    learner: Learner
    history: list[Metrics]
    end: End
    reason: str
    verdicts: list[Told] = field(default_factory=list)
    """What the guard said, step by step; steps at which all was well are left out."""
    kept: int = 0
    """Updates behind the weights that the policy has now: all that were done, unless rolled back."""


def align(
    policy: LanguageModel,
    scorer: Scorer | None,
    prompts: Sequence[Prompt],
    config: AlignConfig,
    folder: str | Path,
    *,
    environment: Environment | None = None,
    watch: Mapping[str, Scorer] | None = None,
    guard: GuardConfig = WARNS,
    critic: ValueHead | None = None,
    resume: bool = False,
    save_every: int = 10,
    progress: Callable[[Metrics], None] = lambda _: None,
) -> AlignResult:
    """Train ``policy`` in place against ``scorer``; figures, samples and checkpoints go to ``folder``.

    With an ``environment`` each prompt begins an episode with it (``align.episodes``); it pays, and a scorer
    may judge the episodes besides, or be ``None``. ``watch`` names scorers that are logged beside the reward
    and never optimised. ``guard`` says what is watched for, and whether its verdicts are acted on; each is
    a line of verdicts.jsonl, with its reason. A run that is rolled back ends with the best weights it kept.
    ``critic`` is one begun as a reward model. Ctrl-C ends the run after a step, with a checkpoint.

    Raises:
        DataError: no prompts, or one that is empty or does not fit the context.
        ConfigError: ``folder`` holds a run and ``resume`` was not asked for; nothing pays; or the guard's
            witness is not watched, or a watched scorer has the name of a figure of the run; or the run to
            resume was begun with a guard that kept no weights and this one would go back to them.
        StoreError: the run to resume was made from another model, with other settings or prompts; or the
            disk is full, and the last checkpoint stands.
        NumericsError: a reward, loss or importance ratio is wrong; the last checkpoint stands.
    """
    _refuse(scorer if environment is None else environment, prompts, save_every, guard, watch or {})
    sample = act if environment is None else partial(play, environment=environment)
    folder = Path(folder)
    checkpoints.refuse_another(folder, resume)
    if critic is None and config.row.critic and config.critic == "own":
        critic = OwnCritic(policy.frozen_copy())
    hasten(policy, halved=config.mixed_precision)
    learner = Learner(policy, config, critic)
    for prompt in prompts:  # a prompt too long is refused now, not hours later when it is drawn
        learner.engine(0).encode(prompt)
    run = _Watched(folder, learner, guard, None if environment is None else learner.engine(0).decode)
    history = _begin(folder, learner, prompts, scorer, resume)
    if guard.keeps and 0 < len(history) < config.steps and not run.kept.path.exists():
        raise ConfigError(
            f"{run.kept.path} is not there, and the guard would roll back to the weights in it: the run was "
            "begun with one that keeps none. Resume it with that one, or start a new run in another folder"
        )
    verdict = run.begin(history)
    end = _END.get(verdict.action, End.STEPS)
    with _disk(folder), interruptible() as interrupted, (folder / "metrics.jsonl").open("a") as log:
        for step in range(len(history), config.steps if end is End.STEPS else 0):
            if guard.keeps:
                run.kept.note()
            metrics, rollouts, scores = run_step(learner, scorer, prompts, step, sample)
            metrics = {
                "step": step + 1,
                "steps": config.steps,
                **metrics,
                **signals(rollouts, scores, metrics, run.decode),
            }
            for name, watcher in (watch or {}).items():
                found = watched(name, scores, judge(watcher, rollouts), floor(history, name, guard))
                if taken := sorted(found.keys() & metrics.keys()):
                    raise ConfigError(
                        f"a watched scorer is called {name!r} and the run has figures of its own called "
                        f"{', '.join(taken)}; give the scorer another name"
                    )
                metrics |= found
            history.append(metrics)
            verdict = run.judge(history, rollouts, scores)
            record_samples(folder, step + 1, rollouts, scores)
            log.write(json.dumps(metrics) + "\n")  # last: a step whose figures are here has all its files
            log.flush()
            progress(metrics)
            end = _END.get(verdict.action, End.STEPS)
            if end is End.STEPS and interrupted.is_set():
                end = End.INTERRUPTED
            if end is not End.STEPS or step + 1 == config.steps or (step + 1) % save_every == 0:
                save_checkpoint(folder, learner, history, prompts, scorer)
            if end is not End.STEPS:
                break
    kept = run.kept.restore() - 1 if end is End.ROLLED_BACK else len(history)
    return AlignResult(learner, history, end, verdict.reason if end in _END.values() else "", run.told, kept)


def _refuse(
    payer: object, prompts: Sequence[Prompt], save_every: int, guard: GuardConfig, watch: Mapping[str, Scorer]
) -> None:
    """Refuse at the start what could only fail later, or would learn nothing."""
    if not prompts:
        raise DataError("no prompts to align on; import some, or choose another split")
    if save_every < 1:
        raise ConfigError(f"save_every is {save_every}; a checkpoint is written every 1 or more steps")
    if payer is None:
        raise ConfigError("neither a scorer nor an environment: nothing would be learned; give one of them")
    if guard.witness is not None and guard.witness not in watch:
        named = ", ".join(map(repr, watch)) or "none"
        raise ConfigError(
            f"the guard's witness {guard.witness!r} is not among the watched scorers ({named}); watch it, or "
            "name another"
        )


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Says what a full disk means for the run; what else a scorer may raise is its own."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreError(
            f"the run in {folder} could not go on: {error}. {checkpoints.standing(folder)}"
        ) from error


_END = {Action.STOP: End.GUARD, Action.ROLL_BACK: End.ROLLED_BACK}
"""Verdicts that end a run."""


class _Watched:
    """A run's guard: its verdicts, in words on disk, and the weights it would go back to."""

    def __init__(self, folder: Path, learner: Learner, guard: GuardConfig, decode: Decode | None) -> None:
        self.path = folder / "verdicts.jsonl"
        self.learner = learner
        self.guard = guard
        self.decode = decode
        self.kept = Kept(folder, learner)
        self.told: list[Told] = []

    def begin(self, history: Sequence[Metrics]) -> Verdict:
        """Take up a run at the end of ``history``; the verdict it had reached there."""
        if self.path.exists():
            rows = [json.loads(line) for line in self.path.read_text().splitlines()]
            self.told = [
                Told(**row | {"action": Action(row["action"])}) for row in rows if row["step"] <= len(history)
            ]
        self._write()
        verdict = self._verdict(history)
        if self.told and self.told[-1].step == len(history):  # its reason quoted that step's texts
            return Verdict(verdict.action, self.told[-1].reason)
        return verdict

    def judge(
        self, history: Sequence[Metrics], rollouts: Sequence[Rollout], scores: Sequence[Score]
    ) -> Verdict:
        """The verdict on the latest step, done as it says; its level goes into the step's row."""
        row, verdict = history[-1], self._verdict(history, shown(rollouts, self.decode))
        row["guard"] = float(list(Action).index(verdict.action))
        if self.guard.keeps and best_step(history, self.guard) == len(history):
            self.kept.keep(len(history))
        if verdict.action is not Action.GO_ON:
            paid = max(range(len(scores)), key=lambda i: scores[i].value)
            self.told.append(Told(len(history), verdict.action, verdict.reason, rollouts[paid].text))
            self._write()
            if len(history) < 2 or history[-2].get("guard") != row["guard"]:  # said once, not at each step
                _LOG.warning("step %d: %s: %s", len(history), verdict.action, verdict.reason)
        if verdict.action is Action.RAISE_BETA:
            self.learner.beta.value *= self.guard.beta_factor
        return verdict

    def _verdict(self, history: Sequence[Metrics], shown: Mapping[str, str] | None = None) -> Verdict:
        stop_reward, stop_kl = self.learner.config.stop_reward, self.learner.config.stop_kl
        return distrust(history, stop_reward=stop_reward, stop_kl=stop_kl, guard=self.guard, shown=shown)

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(asdict(told)) + "\n" for told in self.told))
        draft.replace(self.path)


def _begin(
    folder: Path, learner: Learner, prompts: Sequence[Prompt], scorer: Scorer | None, resume: bool
) -> list[Metrics]:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "metrics.jsonl"
    history: list[Metrics] = []
    if resume and checkpoints.latest(folder) is not None:
        history = load_checkpoint(folder, learner, prompts, scorer)
    # Steps done after the last checkpoint will be done again; their lines must not stand twice.
    draft = log.with_suffix(".draft")
    draft.write_text("".join(json.dumps(row) + "\n" for row in history))
    draft.replace(log)  # whoever reads along sees the old lines or the new ones
    cut_samples(folder, len(history))
    return history


# -- checkpoints -------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path,
    learner: Learner,
    history: Sequence[Metrics],
    prompts: Sequence[Prompt],
    scorer: Scorer | None = None,
) -> Path:
    """Write a checkpoint of the run (``lm.checkpoints.write``).

    The state of a ``scorer`` that adapts (:class:`accord.types.Adapts`) is kept with it.

    Raises:
        StoreError: it could not be written; those before it stand.
    """
    state = {
        "history": list(history),
        "beta": learner.beta.state_dict(),
        "fingerprint": fingerprint(learner, prompts),
        "scorer": scorer.state_dict() if isinstance(scorer, Adapts) else None,
    }
    return checkpoints.write(folder, len(history), learner.tensors(), learner.optimiser.state_dict(), state)


def load_checkpoint(
    folder: Path, learner: Learner, prompts: Sequence[Prompt], scorer: Scorer | None = None
) -> list[Metrics]:
    """Put the newest whole checkpoint into ``learner`` and a ``scorer`` that adapts; the history up to it.

    Raises:
        StoreError: there is none, or it is of another model, other settings or prompts.
    """
    saved = checkpoints.read_own(folder, fingerprint(learner, prompts), "prompts")
    if isinstance(scorer, Adapts):
        if saved.state.get("scorer") is None:
            raise StoreError(
                f"{saved.path} was made with a reward that keeps no state; resume with that reward"
            )
        scorer.load_state_dict(saved.state["scorer"])
    saved.put_into(learner.tensors())
    learner.optimiser.load_state_dict(saved.optimiser)
    learner.beta.load_state_dict(saved.state["beta"])
    return saved.state["history"]


def fingerprint(learner: Learner, prompts: Sequence[Prompt]) -> str:
    """Digest of what a resumed run must share with the one that was stopped: reference, settings, prompts."""
    settings = learner.config.model_dump()
    return digest(learner.reference_hash, settings, [prompt.id for prompt in prompts])
