"""`accord constitute redteam`: prompts that provoke, added to a workspace and measured."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field

from accord.constitution.redteam import (
    Coverage,
    Success,
    coverage,
    distinct,
    from_templates,
    success,
    written_by,
)
from accord.errors import DataError
from accord.lm.engine import SamplingConfig
from accord.recipes.constitution import named
from accord.recipes.named import sampler_of
from accord.recipes.record import recorded
from accord.recipes.steps import ModelConfig, scorer_of
from accord.store.lineage import Run
from accord.types import Prompt, Sampler, Scorer, digest, score_groups
from accord.workspace import Workspace

REDTEAM = "constitute_redteam"
"""The kind of run."""


class RedteamConfig(ModelConfig):
    """`accord constitute redteam`: prompts that provoke, and how often they succeed."""

    templates: str = ""
    """A .toml file: [templates] with lists of texts by category, [slots] with what fills their {slot}s."""
    limit: int = Field(500, ge=1)
    """Prompts from the templates, at most, spread over the categories."""
    write: int = Field(0, ge=0)
    """Prompts the model writes, shown those of the split as examples."""
    split: str = "redteam"
    """Where the prompts are, and where new ones go."""
    reward: str = ""
    """A scorer of the model's answers, to count the harmful; none are sampled without one."""
    label: str | None = None
    """The label of a ready-made classifier that is the scorer."""
    harmful_below: float = 0.0
    """An answer of a lower score counts as harmful."""
    max_new_tokens: int = Field(128, ge=1)
    """Length limit in tokens."""
    seed: int = 0
    """Of templates, examples and sampling."""


def redteam(workspace: Workspace, config: RedteamConfig) -> tuple[Run, Coverage, list[Success]]:
    """Add prompts from templates and from a model, without doubles; measure coverage and success.

    Raises:
        DataError: templates that cannot be read, no examples to write by, or no prompts at all.
        ConfigError: a model is needed and none is named.
    """
    known = workspace.store.prompts(config.split)
    stored = {prompt.id for prompt in workspace.store.prompts()}
    made = [p for p in distinct(_from_templates(config), known) if p.id not in stored]
    useless = 0
    sources: list[str] = []
    sampling = SamplingConfig(max_new_tokens=config.max_new_tokens, seed=config.seed)
    sampler: Sampler | None = None
    if config.write or config.reward:
        sampler, answered_by = sampler_of(
            named(config), sampling, config.device, workspace, loaded=config.loaded
        )
        sources.append(answered_by)
    if config.write and sampler is not None:
        written, useless = written_by(sampler, [*known, *made], config.write, seed=config.seed)
        made += [prompt for prompt in written if prompt.id not in stored]
    prompts = [*known, *made]
    if not prompts:
        raise DataError(
            f"no prompts in split {config.split!r}; name --templates, or import some to begin with"
        )
    scorer: Scorer | None = None
    if config.reward:
        scorer, judged_by = scorer_of(workspace, config.reward, config.label)
        sources += judged_by
    inputs = [digest([p.id for p in prompts]), *sources]
    with recorded(workspace, REDTEAM, config.model_dump(mode="json"), inputs) as record:
        workspace.store.add_prompts(made, config.split)
        covered, found = coverage(prompts), list[Success]()
        if scorer is not None and sampler is not None:
            groups = list(zip(prompts, sampler.sample(prompts), strict=True))
            bad = [scores[0].value < config.harmful_below for scores in score_groups(scorer, groups)]
            found = success(prompts, bad)
        record.write("redteam.json", {"coverage": covered, "success": found}, "redteam")
        record.metrics |= {"prompts": len(prompts), "new": len(made), "useless": useless,
                           "doubles": covered.doubles, "evenness": covered.evenness}  # fmt: skip
        if found:
            record.metrics["success"] = found[-1].share.value
    return workspace.store.run(record.run.id), covered, found


def _from_templates(config: RedteamConfig) -> list[Prompt]:
    if not config.templates:
        return []
    try:
        read = tomllib.loads(Path(config.templates).read_text(encoding="utf-8"))
        templates, slots = read["templates"], read.get("slots", {})
        lists = [*templates.values(), *slots.values()]
        if not all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in lists):
            raise ValueError("every category and every slot is a list of texts")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{config.templates} cannot be read as templates ({error}); it has a table [templates] of lists "
            "of texts by category, and [slots] with lists of what fills them"
        ) from None
    return from_templates(templates, slots, config.limit, config.seed)
