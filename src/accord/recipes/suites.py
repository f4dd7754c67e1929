"""Suites over models: who judges, who answers, and the leaderboard that `accord evaluate A B C` writes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from accord.config import Config
from accord.errors import ConfigError, DataError
from accord.evaluate import gate
from accord.evaluate.asking import Answers, Judge, ask, check, wants_answers
from accord.evaluate.board import write_board
from accord.evaluate.contamination import Overlap, overlap
from accord.evaluate.honest import paragraph, unproven
from accord.evaluate.judges import AgainstReference, Known
from accord.evaluate.leaderboard import leaderboard, section_of
from accord.evaluate.likelihood import Choice, Reference
from accord.evaluate.metrics import RougeScorer
from accord.evaluate.scorers import ExactMatch, Refusal
from accord.evaluate.standings import Leaderboard, Model
from accord.evaluate.suite import ScorerTable, Suite, find, read_suite
from accord.feedback.formats.files import numbered_rows
from accord.judging import LikelihoodChooser, LikelihoodConfig
from accord.lm.engine import SamplingConfig
from accord.recipes.composition import RULES
from accord.recipes.contestants import contestant, prompts_for
from accord.recipes.likelihoods import ModelLikelihoods
from accord.recipes.named import chooser_of, is_remote
from accord.recipes.record import Progress, recorded
from accord.recipes.steps import EvaluateStepConfig, aligned_model, scorer_of
from accord.reward.classifier import ClassifierReward
from accord.reward.rules import load_function
from accord.store.lineage import Run
from accord.types import Completion, Prompt, Score
from accord.workspace import Workspace

DEFAULT = "reward"
"""The suite where none is named: the workspace's prompts, judged by its reward."""
DATA = "ACCORD_DATA"


class Rouge(Config):
    """ROUGE against a reference text."""

    key: str = "reference"
    """Where it stands in the prompt's meta."""


class Named(Config):
    """A scorer by the name --reward gives it; the evaluation's own reward unless named."""

    name: str = ""
    """"reward", a folder, hf:NAME with a label, FILE.toml."""
    label: str | None = None
    """The label of a ready-made classifier."""


class JudgeTable(Config):
    """A model as judge, both orders, of answers against a reference answer."""

    name: str = ""
    """A folder, URL#MODEL or .toml file; what --judge names unless given."""
    key: str = "reference"
    """Where the answer to compare with stands in the prompt's meta."""
    criterion: str = LikelihoodConfig().criterion
    """What better means."""
    temperature: float = Field(1.0, gt=0)
    """Log-odds are divided by it."""


class Function(Config):
    """A Python function, as in a composed reward."""

    name: str
    """MODULE:FUNCTION, found beside the suite too."""


PLAIN: Mapping[str, type[Config]] = {
    "refusal": Refusal, "exact": ExactMatch, "choice": Choice, "reference_loss": Reference,
    "known": Known, **RULES,
}  # fmt: skip
"""Scorers that are their settings."""
TEXTUAL = ("rouge", *(kind for kind in PLAIN if kind not in ("choice", "reference_loss", "known", "code")))
"""Scorers that cost nothing to try before anything is sampled."""
KINDS = (*PLAIN, "rouge", "reward", "probability", "judge", "function")


class LabelProbability:
    """A classifier's probability of a label, in 0..1: toxicity, where the label says toxic."""

    def __init__(self, reward: ClassifierReward) -> None:
        self.reward = reward
        self.part = f"{reward.classifier.label_names[reward.label]} p"

    def score_groups(self, groups: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[list[Score]]:
        """The probability for each completion of many groups, in one pass."""
        return [[Score(one.parts[self.part]) for one in row] for row in self.reward.score_groups(groups)]

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order."""
        return self.score_groups([(prompt, completions)])[0]


def judge_of(
    name: str,
    table: ScorerTable,
    suite: Suite,
    workspace: Workspace,
    config: EvaluateStepConfig,
    judge: str = "",
) -> tuple[Judge, list[str]]:
    """The judge a suite's scorer table means, and the ids of what it came from; ``judge`` is --judge.

    Raises:
        ConfigError: an unknown kind (the nearest is named) or setting.
    """
    where = f"{suite.where} [scorer.{name}]"
    if table.kind in PLAIN:
        return PLAIN[table.kind].build(table.settings, where), []  # type: ignore[return-value]
    if table.kind == "rouge":
        return RougeScorer(Rouge.build(table.settings, where).key), []
    if table.kind == "function":
        function = Function.build(table.settings, where).name
        return load_function(function, suite.folder), [f"function:{function}"]
    if table.kind == "judge":
        return _model_judge(JudgeTable.build(table.settings, where), judge, config, workspace, where)
    if table.kind not in KINDS:
        near = difflib.get_close_matches(table.kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KINDS)}"
        raise ConfigError(f"{where}: there is no kind {table.kind!r}; {hint}")
    named = Named.build(table.settings, where)
    label = named.label if named.name else config.label
    scorer, made_from = scorer_of(workspace, named.name or config.reward, label, config.label_value)
    if table.kind == "reward":
        return scorer, made_from
    if not isinstance(scorer, ClassifierReward):
        raise ConfigError(
            f"{where}: a probability needs a ready-made classifier; name one with --reward FOLDER "
            "--label LABEL, "
            "or in the suite with name and label"
        )
    return LabelProbability(scorer), made_from


def _model_judge(
    table: JudgeTable, judge: str, config: EvaluateStepConfig, workspace: Workspace, where: str
) -> tuple[Judge, list[str]]:
    if not (table.name or judge):
        raise ConfigError(f"{where}: no judge is named; pass --judge, or write its name in the suite")
    name = table.name or judge
    # an answer that makes one pair too long must not end the run: that pair is unusable, and counted
    asked = LikelihoodConfig(criterion=table.criterion, temperature=table.temperature, skip_long=True)
    if is_remote(name):
        far, identity = chooser_of(name, asked, workspace=workspace)
        return AgainstReference(far, table.key), [identity]
    model = config.model_copy(update={"model": name}).load()
    chooser = LikelihoodChooser(ModelLikelihoods(model), asked)
    return AgainstReference(chooser, table.key), [f"judge:{model.weights_hash()}"]


def read_suites(names: Sequence[str], data: str = "") -> list[Suite]:
    """Suites by name or path; files of prompts are looked for beside them, in ``data`` and in
    $ACCORD_DATA."""
    folders = [Path(folder) for folder in (data, os.environ.get(DATA, "")) if folder]
    suites = [read_suite(find(name), numbered_rows, folders) for name in dict.fromkeys(names)]
    twice = [s.name for s in suites if sum(o.name == s.name for o in suites) > 1]
    if twice:
        raise ConfigError(f"two suites are called {twice[0]!r}; rename one of the files")
    return suites


@dataclass(frozen=True)
class Asked:
    """What `accord evaluate A B C` was asked to do."""

    models: Sequence[str] = ()
    """Folders, hub names, URL#MODEL or .toml files, the baseline first; before and after, where none is
    named."""
    suites: Sequence[str] = ()
    """Names or files; :data:`DEFAULT` where none is named."""
    data: str = ""
    """Folder with the suites' files of prompts."""
    fail_if: Sequence[str] = ()
    """Conditions (``evaluate.gate``)."""
    judge: str = ""
    """The model that judges, for suites with a judge (a folder, URL#MODEL or a .toml file); it is the one
    measured where every suite is of judges and no model is named."""
    trained_on: Sequence[str] = ()
    """Files whose text is looked through for the suites' prompts."""


def compare_models(
    workspace: Workspace,
    config: EvaluateStepConfig,
    asked: Asked,
    *,
    progress: Progress = lambda _: None,
) -> tuple[Run, Leaderboard, list[gate.Failure]]:
    """Every model on every suite, with the same seed and settings; one model is in memory at a time.

    The run keeps ``leaderboard.json`` and ``leaderboard.html``.

    Raises:
        ConfigError: a suite, scorer or condition that cannot be read or held, or fewer than two
            models where a condition is against the baseline.
        DataError: a suite without prompts, or a prompt without what its scorers need.
    """
    suites = read_suites(asked.suites or [DEFAULT], asked.data)
    conditions = [gate.read_condition(text) for text in asked.fail_if]
    names, inputs = _models(workspace, config, _contestants(asked, suites))
    prompts = {s.name: prompts_for(s, workspace, config.split) for s in suites}
    judges: dict[str, dict[str, Judge]] = {}
    for suite in suites:
        judges[suite.name] = {}
        for name, table in suite.scorers.items():
            judges[suite.name][name], made_from = judge_of(name, table, suite, workspace, config, asked.judge)
            inputs += made_from
    _check(suites, prompts, judges, conditions, list(names))
    seen = _contamination(workspace, config, suites, prompts, asked.trained_on)
    settings = {**config.model_dump(mode="json"), **asdict(asked)}
    sources = [*inputs, *(suite.hash for suite in suites)]
    with recorded(workspace, "evaluate", settings, sources) as record:
        models, answers = [], []
        for at, (name, shown) in enumerate(names.items()):
            model, found = _answers(
                workspace,
                config,
                (name, shown),
                suites,
                prompts,
                judges,
                progress,
                (at / len(names), 1 / len(names)),
            )
            models.append(model)
            answers.append(found)
        sections = [
            section_of(s, prompts[s.name], [a[s.name] for a in answers], config, seen.get(s.name))
            for s in suites
        ]
        board = leaderboard(models, sections, config)
        record.write("leaderboard.json", board, "leaderboard")
        failed = gate.failures(conditions, board)
        told = paragraph(board)
        record.metrics |= {
            "models": len(models),
            "suites": len(suites),
            "prompts": sum(s.prompts for s in board.sections),
            "best": {s.suite: models[s.order()[0]].name for s in board.sections},
            "says": " ".join(told),
            "not_proven": " ".join(unproven(board)),
            "failed": [f"{f.model}: {f.condition}: {f.text}" for f in failed],
        }
    run = workspace.store.run(record.run.id)
    subtitle = f"workspace {workspace.path.name}, run {run.id}"
    date = run.started[:16].replace("T", " ") + " UTC"
    write_board(run.path / "leaderboard.html", board, failed, subtitle, date)
    return run, board, failed


def _check(
    suites: Sequence[Suite],
    prompts: Mapping[str, Sequence[Prompt]],
    judges: Mapping[str, Mapping[str, Judge]],
    conditions: Sequence[gate.Condition],
    models: Sequence[str],
) -> None:
    """All that can be known to fail before hours of sampling."""
    far = [name for name in models if is_remote(name)]
    for suite in suites:
        likely = [n for n, judge in judges[suite.name].items() if isinstance(judge, Choice | Reference)]
        if far and likely:
            raise ConfigError(
                f"{suite.where} [scorer.{likely[0]}] asks how likely texts are, which {far[0]} does not say; "
                "leave the suite out, or take a local model"
            )
    sampled = [s.name for s in suites if wants_answers(s, judges[s.name])]
    gate.check(conditions, {s.name: s.figures for s in suites}, len(models), sampled)
    for suite in suites:
        textual = [name for name, table in suite.scorers.items() if table.kind in TEXTUAL]
        check(suite, prompts[suite.name], judges[suite.name], textual)


def _contestants(asked: Asked, suites: Sequence[Suite]) -> Sequence[str]:
    """The models named, or the judge, where suites are of judges."""
    kinds = {table.kind for suite in suites for table in suite.scorers.values()}
    if not asked.judge or "judge" in kinds:
        return asked.models
    if asked.models or kinds != {"known"}:
        raise ConfigError(
            f"--judge {asked.judge}: none of these suites has another model judge; to measure it as a judge, "
            "name it with the models, or ask for suites of judges alone (hhh, hhh-published, people)"
        )
    return [asked.judge]


def _models(
    workspace: Workspace, config: EvaluateStepConfig, named: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """The models' names, each with what it is called, and the ids of those made here."""
    inputs: list[str] = []
    if not named:
        if not config.model:
            raise ConfigError("no model is named: accord evaluate A B, or --model FOLDER for the one before")
        after, inputs = aligned_model(workspace, config.after)
        named = [config.model, after]
    names = [name.rstrip("/") for name in named]
    if len(set(names)) < len(names):
        raise ConfigError(f"the model {max(names, key=names.count)!r} is named twice; name different ones")
    short = [Path(name).name for name in names]
    called = [name if short.count(s) > 1 else s for name, s in zip(names, short, strict=True)]
    return dict(zip(names, called, strict=True)), list(inputs)


def _answers(
    workspace: Workspace,
    config: EvaluateStepConfig,
    named: tuple[str, str],
    suites: Sequence[Suite],
    prompts: Mapping[str, Sequence[Prompt]],
    judges: Mapping[str, Mapping[str, Judge]],
    progress: Progress,
    part: tuple[float, float],
) -> tuple[Model, dict[str, Answers]]:
    name, shown = named
    begun, share = part  # of all there is to do
    identity, model = contestant(name, shown, config, workspace)
    found = {}
    decoding: dict[str, Any] = {"temperature": config.temperature, "seed": config.seed}
    for suite in suites:
        sampling = SamplingConfig(
            max_new_tokens=suite.table.max_new_tokens or config.max_new_tokens,
            temperature=config.temperature,
            seed=config.seed,
        )
        asked = model(sampling, progress, begun, share / len(suites))
        begun += share / len(suites)
        found[suite.name] = ask(suite, prompts[suite.name], asked, judges[suite.name])
    return Model(shown, identity, {**decoding, "max_new_tokens": config.max_new_tokens}), found


def _contamination(
    workspace: Workspace,
    config: EvaluateStepConfig,
    suites: Sequence[Suite],
    prompts: Mapping[str, Sequence[Prompt]],
    files: Sequence[str],
) -> dict[str, Overlap]:
    """What of each suite stands in the text that was trained on, as far as it is known here or given."""
    own = _trained_here(workspace)
    if not own and not files:
        return {}
    return {s.name: replace(overlap(prompts[s.name], _texts(own, files)), given=bool(files)) for s in suites}


def _trained_here(workspace: Workspace) -> list[str]:
    """The prompts that this workspace's runs of alignment were made on."""
    store = workspace.store
    splits = {run.config.get("split") for run in store.runs("align")}
    return [prompt.text for split in splits for prompt in store.prompts(split)]


def _texts(own: Sequence[str], files: Sequence[str]) -> Iterator[str]:
    yield from own
    for file in files:
        for where, row in numbered_rows(file):
            if isinstance(row, DataError):
                raise DataError(f"{where}: {row}")
            yield "\n".join(text for value in row.values() for text in _strings(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _strings(part)
