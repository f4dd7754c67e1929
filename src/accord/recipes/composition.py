"""A composed reward from a file: one table a part, each naming what it is and how it counts.

[quality]
reward = "reward"            # as --reward names it: the latest reward model, a folder, hf:NAME with a label
mean = 0.2
sd = 1.4

[length]
rule = "length"              # a rule or verifier, with its settings beside it
longest = 60
weight = 0.5

[polite]
function = "my_rules:polite" # Python, found beside the file too
at_least = 0.8               # held on average, at whatever price that takes

[facts]
remote = "https://scores.example.org/score"
token_env = "SCORES_TOKEN"
pool = { kind = "threads", workers = 8, seconds = 30 }
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accord.errors import ConfigError
from accord.reward.compose import ComposedReward, Part, PartConfig
from accord.reward.pool import PoolConfig, PooledReward
from accord.reward.remote import RemoteConfig, RemoteReward
from accord.reward.rules import Forbidden, Length, Repetition, Rule, load_function
from accord.reward.verify import JsonShape, NumberMatch, Pattern
from accord.reward.verify_code import CodeTest
from accord.types import Scorer, digest

SUFFIX = ".toml"
SOURCES = ("reward", "rule", "function", "remote")
RULES: Mapping[str, type[Rule]] = {
    "number": NumberMatch,
    "pattern": Pattern,
    "json": JsonShape,
    "code": CodeTest,
    "length": Length,
    "repetition": Repetition,
    "forbidden": Forbidden,
}
Resolve = Callable[[str, str | None], tuple[Scorer, list[str]]]
"""A scorer by the name --reward gives it and a label, with the ids of what it came from."""


def read_composition(file: Path, resolve: Resolve) -> tuple[ComposedReward, list[str]]:
    """The composed reward of ``file``, and the ids of what it came from.

    Raises:
        ConfigError: no such file, no TOML, or a part that names nothing, two things, or an unknown setting.
    """
    try:
        text = file.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"the reward file {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the reward file {file} is not TOML: {error}") from error
    parts: list[Part] = []
    inputs = [f"composition:{digest(text)}"]
    for name, table in tables.items():
        where = f"{file} [{name}]"
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {name} = {table!r} stands outside of a part; write it under a [name]")
        settings = dict(table)
        pool = settings.pop("pool", None)
        counted = {key: settings.pop(key) for key in [*settings] if key in PartConfig.model_fields}
        config = PartConfig.build(counted, where)
        scorer, made_from = _scorer(settings, where, file.resolve().parent, resolve)
        inputs += made_from
        if pool is not None:
            if not isinstance(pool, dict):
                raise ConfigError(f"{where}: pool = {pool!r}; write pool = {{ workers = 4 }}")
            scorer = PooledReward(scorer, PoolConfig.build(pool, f"{where} pool"))
        parts.append(Part(name, scorer, config))
    return ComposedReward(parts), inputs


def _scorer(settings: dict[str, Any], where: str, folder: Path, resolve: Resolve) -> tuple[Scorer, list[str]]:
    """What one part is; ``settings`` holds all but how it counts."""
    kinds = [key for key in SOURCES if key in settings]
    if len(kinds) != 1:
        named = " and ".join(kinds) or "none of them"
        raise ConfigError(f"{where}: a part is one of {', '.join(SOURCES)}; this one names {named}")
    kind = kinds[0]
    name = settings.pop(kind)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: {kind} = {name!r}; it takes a text")
    if kind == "rule":
        return _rule(name, where).build(settings, where), []
    if kind == "remote":
        return RemoteReward(RemoteConfig.build({"url": name, **settings}, where)), []
    label = settings.pop("label", None) if kind == "reward" else None
    if settings:
        known = [*PartConfig.model_fields, "pool", *SOURCES, *(["label"] if kind == "reward" else [])]
        raise ConfigError(f"{where}: unknown key {min(settings)!r}; {_hint(min(settings), known)}")
    if kind == "function":
        return load_function(name, folder), [f"function:{name}"]
    if name.endswith(SUFFIX):
        raise ConfigError(f"{where}: a composition holds no other ({name}); put its parts here")
    return resolve(name, label)


def _rule(name: str, where: str) -> type[Rule]:
    if name not in RULES:
        raise ConfigError(f"{where}: there is no rule {name!r}; {_hint(name, RULES)}")
    return RULES[name]


def _hint(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
