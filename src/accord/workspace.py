"""A workspace: a folder that holds one alignment project.

accord.toml      settings: where the database is, one section a step
guidelines.md    what labelers are told; each version that was used is kept in the store
accord.db        the store (or a PostgreSQL server, by ``database`` in accord.toml)
models/          models that are meant to stay
runs/            one folder a run: its metrics, checkpoints and outputs
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from pydantic import Field

from accord.config import Config
from accord.errors import ConfigError, StoreError
from accord.store.store import Store

SETTINGS = "accord.toml"
GUIDELINES = "guidelines.md"
DEFAULT_DATABASE = "sqlite:///accord.db"
DEFAULT_GUIDELINES = Path(__file__).with_name(GUIDELINES)
STEPS = (
    "sample", "label", "choose", "agree", "reward", "study", "align", "prefer", "distil", "watch", "evaluate",
    "redteam", "revise", "supervise", "constitute",
)  # fmt: skip
Section = dict[str, Any]
VARIABLE = re.compile(r"\$\{(\w+)\}")


class Settings(Config):
    """What ``accord.toml`` may hold. A step checks its own section when it builds its config."""

    database: str = DEFAULT_DATABASE
    """SQLAlchemy URL of the store: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."""
    sample: Section = Field(default_factory=dict)
    """Settings of ``accord sample``."""
    label: Section = Field(default_factory=dict)
    """Settings of ``accord label``."""
    choose: Section = Field(default_factory=dict)
    """Settings of ``accord choose``."""
    agree: Section = Field(default_factory=dict)
    """Settings of ``accord agree``."""
    reward: Section = Field(default_factory=dict)
    """Settings of ``accord reward``."""
    study: Section = Field(default_factory=dict)
    """Settings of ``accord study``."""
    align: Section = Field(default_factory=dict)
    """Settings of ``accord align`` by reinforcement learning..."""
    prefer: Section = Field(default_factory=dict)
    """...on preferences (dpo, ipo, kto, orpo, simpo)..."""
    distil: Section = Field(default_factory=dict)
    """...and on the best of the model's own samples (rft)."""
    watch: Section = Field(default_factory=dict)
    """Settings of ``accord watch`` and of ``accord align --watch``."""
    evaluate: Section = Field(default_factory=dict)
    """Settings of ``accord evaluate``."""
    redteam: Section = Field(default_factory=dict)
    """Settings of ``accord constitute redteam``..."""
    revise: Section = Field(default_factory=dict)
    """...``revise``..."""
    supervise: Section = Field(default_factory=dict)
    """...``supervise``..."""
    constitute: Section = Field(default_factory=dict)
    """...and of ``judge`` and ``prefer``."""


class Workspace:
    """An open workspace. Make one with :meth:`create`, find one with :meth:`open`."""

    def __init__(self, path: Path, settings: Settings, *, create: bool = False) -> None:
        self.path = path
        self.settings = settings
        self.models = path / "models"
        self.runs = path / "runs"
        self._guidelines = ("", "")
        self.store = Store(database_url(settings.database, path), path, create=create)

    @classmethod
    def create(
        cls,
        path: str | Path,
        database: str = DEFAULT_DATABASE,
        steps: Mapping[str, type[Config]] | None = None,
    ) -> Workspace:
        """Make a workspace at ``path``; ``steps`` gives the config whose fields each section explains.

        Raises :class:`StoreError` where part of a workspace exists already; nothing is overwritten.
        """
        folder = Path(path).resolve()
        for name in (SETTINGS, GUIDELINES, "accord.db", "models", "runs"):
            if (folder / name).exists():
                raise StoreError(
                    f"{folder / name} exists, and a new workspace overwrites nothing; choose another folder"
                )
        folder.mkdir(parents=True, exist_ok=True)
        workspace = cls(folder, Settings(database=database), create=True)
        workspace.models.mkdir()
        workspace.runs.mkdir()
        guidelines = DEFAULT_GUIDELINES.read_text(encoding="utf-8")
        (folder / GUIDELINES).write_text(guidelines, encoding="utf-8")
        workspace.store.add_guidelines(guidelines)
        # last: a folder with this file is a whole workspace
        (folder / SETTINGS).write_text(settings_text(database, steps or {}), encoding="utf-8")
        return workspace

    @classmethod
    def open(cls, path: str | Path = ".") -> Workspace:
        """The workspace that ``path`` lies in: the nearest folder upwards that holds an accord.toml.

        Raises :class:`StoreError` where there is none or its database is missing, and
        :class:`ConfigError` for an accord.toml that cannot be read or has an unknown key.
        """
        start = Path(path).resolve()
        for folder in (start, *start.parents):
            if (folder / SETTINGS).is_file():
                return cls(folder, read_settings(folder / SETTINGS))
        raise StoreError(f"no {SETTINGS} in {start} or above it; make a workspace with: accord init {path}")

    def guidelines(self) -> tuple[str, str]:
        """Version and text of guidelines.md as it stands; the version is kept in the store."""
        file = self.path / GUIDELINES
        if not file.is_file():
            raise StoreError(f"{file} is missing; labelers need it: restore or write it")
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from None
        version, known = self._guidelines
        if text != known or not version:  # each page asks, and only a change is written
            version = self.store.add_guidelines(text)
            self._guidelines = (version, text)
        return version, text

    def section(self, step: str) -> Section:
        """What accord.toml sets for ``step``; empty where it sets nothing."""
        if step not in STEPS:
            raise ConfigError(f"no section [{step}] in {SETTINGS}; there are {', '.join(STEPS)}")
        return dict(getattr(self.settings, step))


def read_settings(file: Path) -> Settings:
    """The settings in ``file``. Raises :class:`ConfigError` with the line or the nearest known key."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    return Settings.build(values, where=str(file))


def database_url(setting: str, folder: Path) -> str:
    """The URL to connect to: ``${NAME}`` taken from the environment, an SQLite file taken from ``folder``.

    A variable inside a URL is percent-encoded, as a password must be; one that is the whole setting
    is a URL itself.
    """
    url = VARIABLE.sub(lambda match: _variable(match, whole=match.group() == setting), setting)
    prefix = "sqlite:///"
    if url.startswith(prefix) and url != prefix and not url.endswith(":memory:"):
        return prefix + str(folder / url.removeprefix(prefix))
    return url


def _variable(match: re.Match[str], whole: bool) -> str:
    name = match.group(1)
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(
            f"database names the environment variable {name}, which is not set; export {name}=..."
        )
    return value if whole else quote_plus(value)


def settings_text(database: str, steps: Mapping[str, type[Config]]) -> str:
    """A new accord.toml: the database, and a section a step with every setting commented out."""
    lines = [
        "# Settings of this workspace. A flag on the command line wins over this file; an unknown key",
        "# is refused. Remove the # before a setting to change it.",
        "",
        "# Where prompts, completions, rankings and runs are kept. SQLite needs nothing installed.",
        "# Many labelers on several machines: database = "
        + '"postgresql+psycopg://user:${PGPASSWORD}@host/name"',
        f"database = {json.dumps(database)}",
    ]
    for step in STEPS:
        lines += ["", f"[{step}]"]
        if step in steps:
            lines += _section_lines(steps[step])
        else:
            lines.append(f"# accord {step} --help explains each setting")
    return "\n".join(lines) + "\n"


def _section_lines(config: type[Config]) -> list[str]:
    lines: list[str] = []
    for name, field in config.model_fields.items():
        lines += [f"# {line.strip()}" for line in (field.description or "").splitlines() if line.strip()]
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if default is None:
            lines.append(f"# {name} =  # not set")
        else:
            lines.append(f"# {name} = {_toml(default)}")
    return lines


def _toml(value: Any) -> str:
    """A default as TOML, which shares JSON's scalars and lists."""
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)
