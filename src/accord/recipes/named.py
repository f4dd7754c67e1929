"""Models that write and judge, by name: a folder or hub name, URL#MODEL, or a .toml file about a model behind
a URL.

    url = "https://models.example.org/v1"
    model = "large-instruct"
    token_env = "EXAMPLE_TOKEN"        # a URL#MODEL takes the token from $ACCORD_API_KEY, where it is set
    reason = true                      # of a judge: think first

The file holds the settings of ``chat.ChatConfig``, and ``reason`` and ``top_logprobs`` of
``chat_chooser.ChatChooserConfig``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field

from accord.chat import Chat, ChatConfig, ChatSampler
from accord.chat_chooser import ChatChooser, ChatChooserConfig
from accord.errors import ConfigError, DataError
from accord.judging import Chooser, LikelihoodChooser, LikelihoodConfig
from accord.lm.adapted import load_model
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.reasoning import ReasoningChooser
from accord.recipes.likelihoods import ModelLikelihoods
from accord.types import Completion, Prompt, Sampler, Stop, digest
from accord.workspace import Workspace

TOKEN = "ACCORD_API_KEY"
THOUGHT = 256
"""Longest thought of a local judge that reasons, in tokens."""
VERDICT_ROOM = 64
"""Tokens kept free behind it for the question after the letter, and the letter."""
ANSWERS = "answers.jsonl"
"""The file in a workspace that keeps what models behind URLs answered."""
MANNERS = {"token_env", "seconds", "tries", "pause", "longest_pause", "parallel", "cache"}
"""Settings that change no answer."""


class RemoteModel(ChatConfig):
    """A model behind a URL, as sampler and as judge."""

    reason: bool = False
    """As a judge: think in words first."""
    top_logprobs: int = Field(20, ge=0, le=20)
    """As a judge: likeliest tokens asked for; 0 where the server refuses them."""

    @property
    def identity(self) -> str:
        """What answers depend on."""
        settings = self.model_dump(mode="json", exclude=MANNERS)
        return f"{self.url}#{self.model} {digest(settings)}"


def is_remote(name: str) -> bool:
    """Whether a name is of a model behind a URL."""
    return name.startswith(("http://", "https://")) or name.endswith(".toml")


def remote_model(name: str, workspace: Workspace | None = None) -> RemoteModel:
    """What a name says of a model behind a URL; answers are kept in the workspace unless it says where.

    Raises:
        ConfigError: the URL names no model, or the file cannot be read or has a wrong key.
    """
    kept = str(workspace.path / ANSWERS) if workspace else ""
    if not name.endswith(".toml"):
        url, _, model = name.partition("#")
        if not model:
            raise ConfigError(f"{name}: which model? write {url}#MODEL, as the server names it")
        token = TOKEN if os.environ.get(TOKEN) else ""
        return RemoteModel.build({"url": url, "model": model, "token_env": token, "cache": kept}, name)
    try:
        settings = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the model file {name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the model file {name} is not TOML: {error}") from error
    return RemoteModel.build({"cache": kept, **settings}, name)


def sampler_of(
    name: str,
    sampling: SamplingConfig,
    device: str | None = None,
    workspace: Workspace | None = None,
    *,
    loaded: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Sampler, str]:
    """A model that writes, by name, and what identifies it; ``loaded`` says how local weights are loaded.
    What a .toml file says of sampling holds.

    Raises:
        ConfigError: as :func:`remote_model`; or a model behind a URL is asked for ``top_k``, which has no
            place in the protocol.
    """
    if not is_remote(name):
        model = merged(name, device, **loaded)
        hasten(model)
        return Fitting(Engine(model, sampling)), model.weights_hash()
    remote = sampled(remote_model(name, workspace), sampling)
    return ChatSampler(Chat(remote)), remote.identity


def sampled(remote: RemoteModel, sampling: SamplingConfig) -> RemoteModel:
    """With the sampling's settings where its own do not say. Raises ConfigError for ``top_k``."""
    if sampling.top_k is not None:
        raise ConfigError(
            f"top_k = {sampling.top_k}: OpenAI's protocol has none; where {remote.url} takes one, write "
            f"extra = {{ top_k = {sampling.top_k} }} into the model's .toml file"
        )
    said: dict[str, Any] = {
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
    }
    news = {key: value for key, value in said.items() if key not in remote.model_fields_set}
    if sampling.top_p is not None:
        news["extra"] = {"top_p": sampling.top_p, **remote.extra}
    return RemoteModel(**{**remote.model_dump(exclude_unset=True), **news})


def chooser_of(
    name: str,
    asked: LikelihoodConfig,
    device: str | None = None,
    workspace: Workspace | None = None,
    *,
    reason: bool = False,
) -> tuple[Chooser, str]:
    """A model that judges, by name, and what identifies it; to ``reason`` is to think in words first.

    Raises:
        ConfigError: none is named, or as :func:`remote_model`.
    """
    if not name:
        raise ConfigError("no judge is named: pass --judge FOLDER, --judge URL#MODEL or --judge FILE.toml")
    thinking = " after thought" if reason else ""
    if not is_remote(name):
        model = merged(name, device)
        likelihoods, identity = ModelLikelihoods(model), f"judge:{model.weights_hash()}{thinking}"
        if not reason:
            return LikelihoodChooser(likelihoods, asked), identity
        hasten(model)
        # the verdict has to fit behind the thought
        thinker = Fitting(
            Engine(model, SamplingConfig(max_new_tokens=THOUGHT, temperature=0.0)), VERDICT_ROOM
        )
        return ReasoningChooser(thinker, likelihoods, asked), identity
    remote = remote_model(name, workspace)
    reasons = remote.reason or reason
    config = ChatChooserConfig(**asked.model_dump(), reason=reasons, top_logprobs=remote.top_logprobs)
    return ChatChooser(Chat(remote), config), f"judge:{remote.identity}{thinking}"


class Fitting:
    """A ``Sampler`` over an engine: a prompt that does not fit is answered by nothing, cut before it began.

    One text that is too long must not end a run of thousands; who asks counts what came back empty. ``room``
    tokens are kept free behind the answer.
    """

    def __init__(self, engine: Engine, room: int = 0) -> None:
        self.engine = engine
        self.room = room

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        """``n`` completions for each prompt, in the prompts' order."""
        short = [i for i, prompt in enumerate(prompts) if self.fits(prompt)]
        found = dict(
            zip(short, self.engine.sample([prompts[i] for i in short], n) if short else [], strict=True)
        )
        nothing = [Completion("", stop=Stop.LENGTH)] * n
        return [found.get(i, nothing) for i in range(len(prompts))]

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt and its answer fit the context."""
        limit = self.engine.model.context
        try:
            length = len(self.engine.encode(prompt)) + self.engine.config.max_new_tokens
        except DataError:
            return False
        return limit is None or length + self.room <= limit


def merged(name: str, device: str | None, **loaded: Any) -> LanguageModel:
    """A local model by name, its adapter merged."""
    model = load_model(name, device=device, **loaded)
    model.merge()
    return model
