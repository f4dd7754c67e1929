"""Who answers suites: local models and models behind URLs, by name; and what of a workspace they get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from accord.chat import Chat, ChatSampler
from accord.evaluate.asking import Contestant
from accord.evaluate.suite import Suite
from accord.judging import Asked, Choice, Chooser, LikelihoodChooser, LikelihoodConfig
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.recipes.likelihoods import ModelLikelihoods
from accord.recipes.named import Fitting, chooser_of, is_remote, remote_model, sampled
from accord.recipes.record import Progress, agreed, prompts_of
from accord.recipes.steps import EvaluateStepConfig
from accord.types import Completion, Prompt, Sampler, digest
from accord.workspace import Workspace

A = TypeVar("A")
B = TypeVar("B")
CHUNK = 64
"""Prompts answered, or questions judged, between two signs of progress."""
JUDGING = LikelihoodConfig(skip_long=True)
"""How a model is asked that is measured as judge: what is too long for it is counted."""
MOST = 1000
"""Pairs that people agree on that are asked at most, always the same ones."""


class Chunks:
    """A model that answers and judges in parts of :data:`CHUNK`, telling how far it is."""

    def __init__(
        self, sampler: Sampler, chooser: Chooser, told: Progress, begun: float, share: float
    ) -> None:
        self.sampler, self.chooser = sampler, chooser
        self.told, self.begun, self.share = told, begun, share

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        """The same as the sampler's."""
        return self._parts(prompts, lambda part: self.sampler.sample(part, n))

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        """The same as the chooser's."""
        return self._parts(asked, self.chooser.choose)

    def _parts(self, every: Sequence[A], answer: Callable[[Sequence[A]], list[B]]) -> list[B]:
        out: list[B] = []
        for at in range(0, len(every), CHUNK):
            out += answer(every[at : at + CHUNK])
            done = self.begun + self.share * len(out) / len(every)
            self.told({"step": round(1000 * done), "steps": 1000})
        return out


Answering = Callable[[SamplingConfig, Progress, float, float], Contestant]
"""A model as it answers and judges, from how it samples, and whom it tells how far it is: where it begins,
and how large a share of the whole this is."""


def contestant(
    name: str, shown: str, config: EvaluateStepConfig, workspace: Workspace
) -> tuple[str, Answering]:
    """What identifies a model, and it as it answers and judges.

    Raises:
        ConfigError: as ``named.remote_model``; ModelError where a folder holds no model.
    """
    if is_remote(name):
        remote = remote_model(name, workspace)
        chooser, _ = chooser_of(name, JUDGING, workspace=workspace)

        def far(sampling: SamplingConfig, *told: Any) -> Contestant:
            parts = Chunks(ChatSampler(Chat(sampled(remote, sampling))), chooser, *told)
            return Contestant(shown, parts, None, parts)

        return remote.identity, far
    lm = config.model_copy(update={"model": name}).load()
    hasten(lm)
    likelihoods = ModelLikelihoods(lm)

    def near(sampling: SamplingConfig, *told: Any) -> Contestant:
        engine = Fitting(Engine(lm, sampling))
        parts = Chunks(engine, LikelihoodChooser(likelihoods, JUDGING), *told)
        return Contestant(shown, parts, likelihoods, parts, engine.fits)

    return lm.weights_hash(), near


def prompts_for(suite: Suite, workspace: Workspace, split: str | None) -> list[Prompt]:
    """A suite's prompts, its own or the workspace's. Raises DataError where there are none."""
    if suite.source == "people":
        return _people(workspace, split)
    return list(suite.prompts) or prompts_of(workspace, split)


def _people(workspace: Workspace, split: str | None) -> list[Prompt]:
    """Pairs that people agree on, as prompts with their answers in the meta."""
    pairs = {}
    for one in agreed(workspace, split)[1]:
        texts = (one.chosen.text, one.rejected.text)
        meta = {**one.prompt.meta, "better": texts[0], "worse": texts[1]}
        id = digest("people", one.prompt.id, texts)
        pairs[id] = Prompt(one.prompt.messages, meta, id)
    return [pairs[id] for id in sorted(pairs)[:MOST]]
