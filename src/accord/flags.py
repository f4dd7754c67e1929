"""What the verbs of the command line share: how flags and ``accord.toml`` become settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from accord.config import Config
from accord.errors import ConfigError
from accord.workspace import Workspace

C = TypeVar("C", bound=Config)

Folder = Annotated[Path, tyro.conf.arg(aliases=["-w"], metavar="FOLDER")]
Verb = Callable[..., int]

HERE = Path(".")


def defaults(argv: Sequence[str], step: str, config: type[C]) -> C:
    """The step's defaults in the workspace the command line names; the class's own outside of one."""
    places = [argv[i + 1] for i, word in enumerate(argv[:-1]) if word in ("-w", "--workspace")]
    places += [word.split("=", 1)[1] for word in argv if word.startswith("--workspace=")]
    places += [word[2:].lstrip("=") for word in argv if word.startswith("-w") and word != "-w"]
    if "-h" in argv or "--help" in argv:
        return config()
    section = Workspace.open(places[-1] if places else HERE).section(step)
    return config.build(section, f"accord.toml [{step}]")


def step_configs() -> dict[str, type[Config]]:
    """The config class behind each section of accord.toml, for the comments of a new one."""
    from accord.feedback.consensus import AgreeConfig
    from accord.feedback.labeling.config import LabelConfig
    from accord.recipes.choose import ChooseConfig
    from accord.recipes.constitution import (
        ConstitutePreferConfig,
        ReviseStepConfig,
        SuperviseStepConfig,
    )
    from accord.recipes.ensembles import RewardStepConfig
    from accord.recipes.offline import DistilStepConfig, PreferStepConfig
    from accord.recipes.redteaming import RedteamConfig
    from accord.recipes.steps import AlignStepConfig, EvaluateStepConfig, SampleConfig
    from accord.recipes.study import StudyConfig
    from accord.recipes.watching import WatchConfig

    return {"sample": SampleConfig, "label": LabelConfig, "agree": AgreeConfig, "reward": RewardStepConfig,
            "study": StudyConfig, "align": AlignStepConfig, "prefer": PreferStepConfig,
            "distil": DistilStepConfig, "watch": WatchConfig, "evaluate": EvaluateStepConfig,
            "choose": ChooseConfig, "redteam": RedteamConfig, "revise": ReviseStepConfig,
            "supervise": SuperviseStepConfig, "constitute": ConstitutePreferConfig}  # fmt: skip


def value(argv: Sequence[str], flag: str) -> str:
    """What the command line gives a flag, the last time it names it; "" where it does not."""
    found = [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == flag]
    found += [word.split("=", 1)[1] for word in argv if word.startswith(f"{flag}=")]
    return found[-1] if found else ""


def given(argv: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Which of the flags the command line names, in either spelling (``--of``, ``--most_flipped=0.5``)."""
    named = {word.split("=", 1)[0].replace("_", "-") for word in argv if word.startswith("--")}
    return [flag for flag in flags if flag in named]


def pair(item: str) -> tuple[str, str]:
    ours, equals, theirs = item.partition("=")
    if not (ours and equals and theirs):
        raise ConfigError(f"--column takes OURS=THEIRS, such as chosen=answer_a; got {item!r}")
    return ours, theirs
