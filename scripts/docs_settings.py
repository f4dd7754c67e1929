#!/usr/bin/env python3
"""The page of settings, written from the fields of each step's config.

scripts/docs_settings.py          writes docs/settings.md
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from accord.flags import step_configs
from accord.recipes.helpdesk.constitutional import ConstitutionDemoConfig
from accord.recipes.helpdesk.demo import DemoConfig
from accord.recipes.lab import LabConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
INTRO = """# Settings

<!-- Written by scripts/docs_settings.py from the code; do not edit. -->

A setting comes from a flag, else from the step's section of `accord.toml`, else from the default here.
On the command line a name takes dashes: `max_new_tokens` is `--max-new-tokens`. In `accord.toml` and in
Python it stands as written. An unknown name is refused, and the message gives the nearest known one.
`accord demo` and [the lab](detox.md) have no section there: their workspaces are made anew.
"""
TITLES = {
    "prefer": "accord align with dpo, ipo, kto, orpo, simpo",
    "distil": "accord align with rft",
    "redteam": "accord constitute redteam",
    "revise": "accord constitute revise",
    "supervise": "accord constitute supervise",
    "constitute": "accord constitute judge and prefer",
}
"""Of sections that are not a verb's name."""
SIGNS = {Ge: "≥ {0.ge}", Gt: "> {0.gt}", Le: "≤ {0.le}", Lt: "< {0.lt}"}


def page() -> str:
    """The whole page as Markdown."""
    parts = [INTRO]
    configs = {TITLES.get(step, f"accord {step}"): config for step, config in step_configs().items()}
    others = {
        "accord demo": DemoConfig,
        "accord demo --constitution": ConstitutionDemoConfig,
        "The lab": LabConfig,
    }
    for title, config in {**configs, **others}.items():
        named = next((f", section `[{step}]`" for step, name in TITLES.items() if name == title), "")
        parts.append(f"## {title}\n\n`{config.__module__}.{config.__name__}`{named}\n")
        parts.append("| name | type | default | meaning |\n|---|---|---|---|")
        parts += [row(name, field) for name, field in config.model_fields.items()]
        parts.append("")
    return "\n".join(parts)


def row(name: str, field: FieldInfo) -> str:
    """One line of a step's table."""
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    limits = [SIGNS[type(m)].format(m) for m in field.metadata if type(m) in SIGNS]
    kind = type_name(field.annotation).replace("|", "\\|") + "".join(f", {limit}" for limit in limits)
    default = field.get_default(call_default_factory=True)
    shown = "not set" if default is None or default == "" else f"`{default}`"
    return f"| `{name}` | {kind} | {shown} | {meaning} |"


def type_name(kind: Any) -> str:
    """A type as people read it: words joined by "or", the choices of an enum or literal."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(type_name(arm) for arm in typing.get_args(kind) if arm is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if hasattr(kind, "__members__"):
        return ", ".join(f"`{member.value}`" for member in kind)
    return {"str": "text", "int": "whole number", "float": "number"}.get(kind.__name__, kind.__name__)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
