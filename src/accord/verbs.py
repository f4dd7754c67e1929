"""Verbs of the command line that are long enough for a file of their own; ``cli.VERBS`` lists all."""

# Annotations stay objects here, as in cli.py.
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import tyro
from tyro.conf import OmitArgPrefixes as Flat

from accord.errors import ConfigError
from accord.flags import HERE, Folder, Verb, defaults, given
from accord.terminal import Bar, err, print_figures, print_table, signed
from accord.workspace import Workspace


def evaluate(argv: Sequence[str]) -> Verb:
    """Before and after, or any models, on the same prompts and seeds; writes the report."""
    from accord.recipes.steps import EvaluateStepConfig
    from accord.recipes.suites import Asked

    def verb(
        models: tyro.conf.Positional[tuple[str, ...]] = (),
        config: Flat[EvaluateStepConfig] = defaults(argv, "evaluate", EvaluateStepConfig),
        workspace: Folder = HERE,
        suite: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        data: str = "",
        judge: str = "",
        fail_if: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        trained_on: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        json: bool = False,
    ) -> int:
        """Compare models on the same prompts and seeds, and write the report.

        Without models: the one before (--model) and the one after, judged by the reward. With models,
        --suite or --fail-if: a leaderboard of any number of them, the first one the baseline.

        Args:
            models: Folders, hub names, URL#MODEL or .toml files (models behind URLs); the first is the
                baseline.
            workspace: Any folder in the workspace.
            suite: A suite's name or .toml file; may be given again. An unknown name lists them.
            data: Folder with the suites' files of prompts; $ACCORD_DATA is looked in too.
            judge: The model that judges, for suites with a judge (alpaca): a folder, URL#MODEL or a .toml
                file. Measured itself where every suite is of judges (hhh, people) and no model is named.
            fail_if: Exit with 1 where a model has it so: "toxicity > baseline", "refusal measurably <
            baseline",
                "xstest/over-refusal >= 0.1"; may be given again.
            trained_on: A file whose text is searched for the suites' prompts; may be given again.
            json: Print one JSON object.
        """
        opened = Workspace.open(workspace)
        several = bool(models or suite or fail_if)
        _no_idle_flags(argv, several)
        if several:
            asked = Asked(models, suite, data, fail_if, judge, trained_on)
            return _leaderboard(opened, config, asked, json)
        return _before_and_after(opened, config, json)

    return verb


def blind(argv: Sequence[str]) -> Verb:
    """A blind A/B by people: two models' answers as pairs to label, then what people said."""
    from accord.recipes.blind import BlindConfig

    def verb(
        models: tyro.conf.Positional[tuple[str, ...]] = (),
        config: Flat[BlindConfig] = BlindConfig(),
        workspace: Folder = HERE,
        run: str = "",
        json: bool = False,
    ) -> int:
        """With two models: put their answers to the same prompts before people, as blind pairs.

        Without: the win rate that people gave so far.

        Args:
            models: Two of: a folder, a hub name, URL#MODEL or a .toml file; or none.
            workspace: Any folder in the workspace.
            run: The blind A/B to read; the latest unless given.
            json: Print one JSON object.
        """
        opened = Workspace.open(workspace)
        if not models:
            return _blind_read(opened, run, json)
        if len(models) != 2 or run:
            raise ConfigError(
                f"a blind A/B is between two models, and {len(models)} are named"
                if len(models) != 2
                else "--run reads what people said; leave the models out, or the run"
            )
        return _blind_start(opened, (models[0], models[1]), config, json)

    return verb


def _blind_start(workspace: Workspace, models: tuple[str, str], config: Any, json: bool) -> int:
    from accord.recipes.blind import start

    with Bar("blind", json) as bar:
        _, found = start(workspace, models, config, progress=bar)
    print_figures(asdict(found), json)
    err.print(
        f"{found.needed} judgements find a win rate of {config.win_rate:.0%} with {config.ties:.0%} ties "
        f"four times of five; here are {found.pairs} pairs. Next: accord label --split {found.split}, then "
        "accord blind",
        markup=False,
    )
    return 0


def _blind_read(workspace: Workspace, run: str, json: bool) -> int:
    from accord.recipes.blind import read

    told = read(workspace, run)
    print_figures(asdict(told), json)
    sure = told.p <= 0.05 and not told.low <= 0.5 <= told.high
    verdict = "is preferred" if told.win_rate > 0.5 else "is not preferred"
    says = f"{told.second} {verdict} to {told.first}" if sure else "people did not tell the two apart so far"
    err.print(f"{says}: win rate {told.win_rate:.1%} ({told.low:.1%} to {told.high:.1%})", markup=False)
    return 0


def _no_idle_flags(argv: Sequence[str], several: bool) -> None:
    """Refuse flags that the asked kind of evaluation would not heed."""
    idle = ("--samples", "--criterion") if several else ("--data", "--judge", "--trained-on")
    found = given(argv, idle)
    if found and several:
        raise ConfigError(
            f"{found[0]} is of before and after alone; a suite's file says how many answers are sampled "
            "(samples) and what ranks models (main)"
        )
    if found:
        raise ConfigError(f"{found[0]} is of suites; name one with --suite, or leave the flag out")


def _before_and_after(workspace: Workspace, config: Any, json: bool) -> int:
    from accord.recipes.reporting import workspace_report
    from accord.recipes.steps import evaluate as run

    with Bar("evaluate", json) as bar:
        done, evaluation = run(workspace, config, progress=bar)
    page = workspace_report(workspace, evaluation, done)
    if not json:
        rows = [
            (r.name, f"{r.before_mean:.3f}", f"{r.after_mean:.3f}", signed(r.difference, r.low, r.high))
            for r in evaluation.rows
        ]
        print_table(("figure", "before", "after", "difference (95 %)"), rows)
    print_figures({"run": done.id, **done.metrics, "report": str(page)}, json)
    return 0


def _leaderboard(workspace: Workspace, config: Any, asked: Any, json: bool) -> int:
    from accord.evaluate.honest import bounds, shown, unproven
    from accord.recipes.suites import compare_models

    with Bar("evaluate", json) as bar:
        done, board, failed = compare_models(workspace, config, asked, progress=bar)
    page = done.path / "leaderboard.html"
    if json:
        print_figures({"run": done.id, **done.metrics, "report": str(page)}, True)
        return int(bool(failed))
    for section in board.sections:
        rows = [(f"{row.name} *" if row.name == section.main else row.name,
                 *(f"{shown(row, c.value)} ({ends})" if (ends := bounds(row, c)) else shown(row, c.value)
                   for c in row.cells)) for row in section.rows]  # fmt: skip
        print_table((section.suite, *(model.name for model in board.models)), rows)
    print(f"{done.metrics['says']}\n\nNot proven:")
    for open_ in unproven(board):
        print(f"- {open_}")
    print()
    for failure in failed:
        err.print(f"failed: {failure.model}: {failure.condition}: {failure.text}", markup=False)
    print_figures({"run": done.id, "report": str(page)}, False)
    return int(bool(failed))
