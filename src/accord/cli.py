"""The command line: one verb a step. ``accord VERB --help`` explains each setting.

Settings come from flags, else from the verb's section of ``accord.toml``, else from the defaults.
Figures go to standard output (one JSON object with ``--json``), progress and errors to standard
error. Exit codes: 0 done, 1 a check failed, 2 bad input or settings, 130 interrupted.

Each verb is built when it is asked for, so that importing, labelling and agreeing load no torch.
"""

# Annotations stay objects here: tyro reads the classes that a verb imports inside its own builder.
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes as Flat

from accord.config import Config
from accord.constitute import constitute
from accord.errors import AccordError
from accord.flags import HERE, Folder, Verb, defaults, pair, step_configs, value
from accord.terminal import Bar, err, print_figures, print_table, with_bounds
from accord.verbs import blind, evaluate
from accord.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb; an error becomes one line and an exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        _overview()
        sys.exit(0)
    if argv[0] in ("-V", "--version"):
        print(f"accord {importlib.metadata.version('accord')}")
        sys.exit(0)
    # accord reports on its own work; a library's loading bars and advice would drown it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        if argv[0] not in VERBS:
            raise _unknown_verb(argv[0])
        code = tyro.cli(VERBS[argv[0]](argv[1:]), args=argv[1:], prog=f"accord {argv[0]}")
    except AccordError as error:
        err.print("error:", style="bold red", end=" ")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; what was done is kept")
        sys.exit(130)
    sys.exit(code)


# -- verbs -------------------------------------------------------------------------------------


def init(argv: Sequence[str]) -> Verb:
    """Make a workspace: settings, guidelines for labelers, database, folders."""

    def verb(
        folder: Annotated[Path, tyro.conf.Positional] = HERE,
        database: str = "sqlite:///accord.db",
        json: bool = False,
    ) -> int:
        """Make a workspace.

        Args:
            folder: Where; made if it is not there.
            database: SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.
            json: Print one JSON object.
        """
        workspace = Workspace.create(folder, database, step_configs())
        print_figures({"workspace": str(workspace.path), "guidelines": workspace.guidelines()[0]}, json)
        err.print(f"next: edit {folder / 'guidelines.md'}, then `accord import PROMPTS.jsonl -w {folder}`")
        return 0

    return verb


def import_(argv: Sequence[str]) -> Verb:
    """Read prompts or judgements from a file, a folder or a hub data set."""
    from accord.recipes.judgements import import_feedback

    def verb(
        source: Annotated[str, tyro.conf.Positional],
        workspace: Folder = HERE,
        format: str = "auto",
        split: str | None = None,
        criterion: str = "",
        column: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        limit: int | None = None,
        skip_bad: bool = False,
        json: bool = False,
    ) -> int:
        """Read prompts or judgements into the workspace.

        Args:
            source: A file (.jsonl, .json, .csv, .parquet, also .gz), a folder, or hf:OWNER/NAME.
            workspace: Any folder in the workspace.
            format: What the rows are; auto looks at the columns. An unknown name lists them all.
            split: Put the prompts in this split (such as train or holdout).
            criterion: That of rankings whose row names none; `accord agree` keeps criteria apart.
            column: A name that differs, as OURS=THEIRS: chosen=answer_a; may be given again.
            limit: Read at most so many rows.
            skip_bad: Skip malformed rows and count them, instead of stopping at the first.
            json: Print one JSON object.
        """
        columns = dict(pair(item) for item in column)
        feedback = import_feedback(
            Workspace.open(workspace), source, format, split=split, criterion=criterion, columns=columns,
            limit=limit, skip_bad=skip_bad,
        )  # fmt: skip
        for problem in feedback.problems[:5]:
            err.print(str(problem), markup=False)
        if json:
            counts = {name: len(getattr(feedback, name)) for name in
                      ("prompts", "rankings", "thumbs", "comparisons", "problems")}  # fmt: skip
            print_figures({"format": feedback.format, "rows": feedback.rows, **counts}, True)
        else:
            print(feedback.describe())
        return 0

    return verb


def export(argv: Sequence[str]) -> Verb:
    """Write judgements to a file in another tool's format, or all facts as the event log."""
    from accord.recipes.judgements import export_feedback

    def verb(
        path: Annotated[str, tyro.conf.Positional],
        workspace: Folder = HERE,
        format: str = "events",
        ties: Literal["drop", "keep"] = "drop",
        overwrite: bool = False,
        json: bool = False,
    ) -> int:
        """Write the workspace's judgements.

        Args:
            path: The file; its ending chooses jsonl, json, csv or parquet, .gz compresses.
            workspace: Any folder in the workspace.
            format: events (all facts), tasks (a sheet for labelers), or a format of `accord import`.
            ties: What pair formats do with comparisons that are ties.
            overwrite: Replace the file if it is there.
            json: Print one JSON object.
        """
        written = export_feedback(Workspace.open(workspace), path, format, ties=ties, overwrite=overwrite)
        print_figures({"path": path, "rows": written.rows, "left_out": dict(written.left_out)}, json)
        return 0

    return verb


def label(argv: Sequence[str]) -> Verb:
    """People rank completions in their browsers; also `label invite`, `label link`, `label token`."""
    from accord.feedback.labeling.config import LabelConfig
    from accord.recipes import labeling

    if argv[:1] in (["invite"], ["link"], ["token"]):
        return _label_access(argv)

    def verb(
        config: Flat[LabelConfig] = defaults(argv, "label", LabelConfig),
        workspace: Folder = HERE,
        wait: bool = False,
        json: bool = False,
    ) -> int:
        """Serve the labelling app until Ctrl-C.

        `accord label invite` makes a link by which labelers join, `accord label link NAME` one that signs a
        person in, `accord label token NAME` a token for programs.

        Args:
            workspace: Any folder in the workspace.
            wait: Start with nothing to label too; tasks appear as completions come.
            json: Print one JSON object when it listens.
        """

        def opened(opening: labeling.Opening) -> None:
            figures: dict[str, object] = {
                "address": opening.address,
                "prompts": opening.tasks,
                "owner": opening.owner_link,
            }
            if json:
                figures["refit"] = asdict(opening.refit)
            for note in opening.refit.notes():
                err.print(f"note: {note}", markup=False)
            print_figures(figures, json)
            sys.stdout.flush()
            err.print("open the owner's link (good once, for an hour) and invite labelers; Ctrl-C stops")

        labeling.serve(Workspace.open(workspace), config, opened, wait=wait)
        err.print("stopped; every label that was acknowledged is kept")
        return 0

    return verb


def _label_access(argv: Sequence[str]) -> Verb:
    from accord.feedback.labeling.config import LabelConfig
    from accord.recipes.labeling import access

    config = defaults(argv, "label", LabelConfig)

    def verb(
        action: tyro.conf.Positional[Literal["invite", "link", "token"]],
        name: tyro.conf.Positional[str] = "",
        workspace: Folder = HERE,
        role: Literal["labeler", "reviewer", "owner"] | None = None,
        uses: int | None = None,
        days: float | None = None,
        url: str = "",
        json: bool = False,
    ) -> int:
        """Let people or programs into the labelling app.

        Args:
            action: invite: a link by which people join. link: one that signs NAME in, once, within an hour.
                token: for programs that act as NAME (/api/docs of the app tells how).
            name: The person; none for an invitation.
            workspace: Any folder in the workspace.
            role: invite: what they become, labeler unless given. token: make the person if there is none.
            uses: invite: how many people may join by the link, 1 unless given.
            days: invite: how long it is good, 7 unless given. token: the same, no end unless given.
            url: The address people reach the app by; unless given, the one of accord.toml, else the one at
                which the app was last served.
            json: Print one JSON object.
        """
        opened = Workspace.open(workspace)
        print_figures(access(opened, config, action, name, role=role, uses=uses, days=days, url=url), json)
        return 0

    return verb


AGREEMENT = {
    "exact": "two labelers say the same of a pair",
    "half": "... with half credit for one tie",
    "alpha_ordinal": "Krippendorff's alpha, of ranks",
    "alpha_nominal": "Krippendorff's alpha, of pairs",
    "kendall_w": "Kendall's W",
}


def agree(argv: Sequence[str]) -> Verb:
    """The labelers' consensus: comparisons with probabilities, and a table of the labelers."""
    from accord.feedback.consensus import AgreeConfig
    from accord.recipes.judgements import agree as run

    def verb(
        config: Flat[AgreeConfig] = defaults(argv, "agree", AgreeConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Fit the labelers' consensus on all current rankings."""
        done, consensus = run(Workspace.open(workspace), config)
        if not json:
            columns = ("labeler", "rankings", "reliability", "agreement",
                       "position", "ties", "FAIL", "repeats")  # fmt: skip
            rows = [
                (r.labeler, str(r.rankings), with_bounds(r.reliability), with_bounds(r.agreement),
                 with_bounds(r.position), f"{r.tie_share:.0%}", f"{r.fail_share:.0%}",
                 with_bounds(r.repeats.exact.interval))
                for r in consensus.labelers
            ]  # fmt: skip
            shown = len(columns) if done.metrics["repeats"] else -1  # nobody was asked twice: no such column
            print_table(columns[:shown], [row[:shown] for row in rows])
            figures = [(name, getattr(consensus.agreement, part)) for part, name in AGREEMENT.items()]
            print_table(
                ("the pool's agreement", "value", "by chance", "note"),
                [(name, with_bounds(each.interval), "-" if each.chance is None else f"{each.chance:.2f}",
                  each.why or each.left_out) for name, each in figures],
            )  # fmt: skip
        for warning in consensus.warnings:
            err.print(f"note: {warning}", markup=False)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def choose(argv: Sequence[str]) -> Verb:
    """What to label next: put the labelling queue in the order in which prompts tell most."""
    from accord.recipes.choose import ChooseConfig
    from accord.recipes.choose import choose as run

    def verb(
        config: Flat[ChooseConfig] = defaults(argv, "choose", ChooseConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Order the labelling queue by what is known so far, and say what choosing has saved."""
        with Bar("choose", json) as bar:
            done, choice = run(Workspace.open(workspace), config, progress=bar)
        if not json and choice.savings is not None and choice.savings.labels:
            columns = zip(choice.savings.labels, choice.savings.random, choice.savings.active, strict=True)
            rows = [(str(n), f"{random:.1%}", f"{active:.1%}") for n, random, active in columns]
            print_table(("labelled prompts", "accuracy, random arm", "active arm"), rows)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def sample(argv: Sequence[str]) -> Verb:
    """Completions of the workspace's prompts, by a model."""
    from accord.recipes.steps import SampleConfig
    from accord.recipes.steps import sample as run

    def verb(
        config: Flat[SampleConfig] = defaults(argv, "sample", SampleConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Sample completions; prompts that have theirs already are left alone."""
        with Bar("sample", json) as bar:
            done = run(Workspace.open(workspace), config, progress=bar)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def reward(argv: Sequence[str]) -> Verb:
    """Train a reward model on the latest comparisons."""
    from accord.recipes.ensembles import RewardStepConfig
    from accord.recipes.steps import reward as run

    def verb(
        config: Flat[RewardStepConfig] = defaults(argv, "reward", RewardStepConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Train a reward model; its figures are of prompts it never saw."""
        with Bar("reward", json, "loss", "accuracy") as bar:
            done, report, _ = run(Workspace.open(workspace), config, progress=bar)
        if not json:
            print_table(("on held-out prompts", "figure"), report.rows())
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def study(argv: Sequence[str]) -> Verb:
    """What a reward model or classifier gets right, beside people, length and style."""
    from accord.recipes.reward_report import rows
    from accord.recipes.study import StudyConfig
    from accord.recipes.study import study as run

    def verb(
        config: Flat[StudyConfig] = defaults(argv, "study", StudyConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Report on a scorer, on judgements it was not trained on; nothing is changed."""
        done, found = run(Workspace.open(workspace), config)
        if not json:
            print_table(("on pairs it was not trained on", "figure"), rows(found))
        print_figures({"run": done.id, **done.metrics, "report": str(done.path / "study.json")}, json)
        return 0

    return verb


def align(argv: Sequence[str]) -> Verb:
    """Fine-tune the model: against the reward, on preferences, or on the best of its own samples."""
    from accord.recipes.offline import way_of
    from accord.recipes.tracking import Tracker
    from accord.recipes.tracking import track as tracked
    from accord.recipes.watching import page_of

    way = way_of(value(argv, "--algorithm"))

    def verb(
        config: Flat[way.config] = defaults(argv, way.section, way.config),  # type: ignore[name-defined]
        workspace: Folder = HERE,
        resume: bool = False,
        watch: bool = False,
        watch_port: int | None = None,
        track: tyro.conf.UseAppendAction[tuple[Tracker, ...]] = (),
        json: bool = False,
    ) -> int:
        """Align a model; --resume goes on after Ctrl-C.

        The settings depend on the algorithm: `accord align --algorithm dpo --help` shows those of dpo, ipo,
        kto, orpo and simpo (preferences), `--algorithm rft --help` those of the best of its own samples.

        Args:
            workspace: Any folder in the workspace.
            resume: Go on with the latest run of these settings that did not finish.
            watch: Serve a live page of the run: curves, samples and the guard's verdicts.
            watch_port: Where, on this computer; 0 for any port that is free.
            track: Send the figures to this tracker too; may be given again.
            json: Print one JSON object.
        """
        opened = Workspace.open(workspace)
        listeners = [tracked(name, opened) for name in dict.fromkeys(track)]
        if watch or watch_port is not None:
            listeners.append(page_of(opened, way.section, watch_port, _say_address))
        with Bar("align", json, *way.figures) as bar:
            done, _ = way.run(opened, config, resume=resume, progress=bar, listeners=listeners)
        print_figures({"run": done.id, **done.metrics}, json)
        return 130 if done.status == "interrupted" else 0

    return verb


def _say_address(address: str) -> None:
    err.print(f"watch it live: {address}")


def watch(argv: Sequence[str]) -> Verb:
    """The live page of a run: of one that goes on elsewhere, or has ended."""
    from accord.recipes.watching import WatchConfig
    from accord.recipes.watching import watch as serve

    def verb(
        run: tyro.conf.Positional[str] = "",
        config: Flat[WatchConfig] = defaults(argv, "watch", WatchConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Serve a run's curves, samples and verdicts until Ctrl-C; nothing is changed.

        Args:
            run: Its id, such as align-2; the latest run of alignment unless given.
            workspace: Any folder in the workspace.
            json: Print one JSON object when it listens.
        """

        def opened(name: str, address: str) -> None:
            print_figures({"run": name, "address": address}, json)
            sys.stdout.flush()
            err.print("open the address in a browser; Ctrl-C stops")

        serve(Workspace.open(workspace), run, config, opened)
        return 0

    return verb


def doctor(argv: Sequence[str]) -> Verb:
    """Prove the workspace (every row, file and lineage), or a model (the numeric invariants)."""

    def verb(
        model: Annotated[str, tyro.conf.Positional] = "",
        workspace: Folder = HERE,
        dtype: Literal["float32", "bfloat16"] = "float32",
        json: bool = False,
    ) -> int:
        """Check a model if one is named, else the workspace.

        Args:
            model: A model folder or hub name: a language model, a reward model or a classifier.
            workspace: Any folder in the workspace.
            dtype: Of the model's weights.
            json: Print one JSON object.
        """
        if model:
            from accord.recipes.checkup import check_model

            checks = check_model(model, dtype)
            rows = [
                ("ok" if c.passed else "FAIL", c.name, f"{c.figure:.3g}", f"{c.bound:.3g}") for c in checks
            ]
            if not json:
                print_table(("", "invariant", "figure", "bound"), rows)
            for check in checks:
                if not check.passed:
                    err.print(f"{check.name}: {check.advice}", markup=False)
            print_figures(
                {"model": model, "checks": len(checks), "failed": sum(not c.passed for c in checks)}, json
            )
            return int(any(not c.passed for c in checks))
        opened = Workspace.open(workspace)
        problems = opened.store.verify()
        for problem in problems:
            err.print(str(problem), markup=False)
        print_figures(
            {"workspace": str(opened.path), **opened.store.counts(), "problems": len(problems)}, json
        )
        return int(bool(problems))

    return verb


def demo(argv: Sequence[str]) -> Verb:
    """The whole loop on the embedded help desk, with simulated labelers or a constitution; writes a
    report."""
    from accord.recipes.helpdesk.constitutional import ConstitutionDemoConfig, constitution_demo
    from accord.recipes.helpdesk.demo import DemoConfig
    from accord.recipes.helpdesk.demo import demo as run_demo

    by_principles = "--constitution" in argv
    kind: type[Config] = ConstitutionDemoConfig if by_principles else DemoConfig
    run: Callable[..., dict[str, Any]] = constitution_demo if by_principles else run_demo

    def verb(
        folder: Annotated[Path, tyro.conf.Positional] = Path("demo"),
        config: Flat[kind] = kind(),  # type: ignore[valid-type]
        constitution: bool = False,
        json: bool = False,
    ) -> int:
        """Rankings (or principles) to an aligned model in minutes, on a world that knows the truth.

        Args:
            folder: Made anew: a workspace, report.html and summary.json.
            constitution: Align by the help desk's constitution in place of simulated labelers.
            json: Print only the summary.
        """
        summary = run(folder, config, lambda name, *figures: Bar(name, json, *figures))
        print_figures(summary, json)
        err.print(f"\nopen {folder / 'report.html'} in a browser")
        return 0

    return verb


VERBS: Mapping[str, Callable[[Sequence[str]], Verb]] = {
    "init": init,
    "import": import_,
    "sample": sample,
    "label": label,
    "choose": choose,
    "agree": agree,
    "constitute": constitute,
    "reward": reward,
    "study": study,
    "align": align,
    "watch": watch,
    "evaluate": evaluate,
    "blind": blind,
    "export": export,
    "doctor": doctor,
    "demo": demo,
}


def _unknown_verb(name: str) -> AccordError:
    import difflib

    from accord.errors import ConfigError

    near = difflib.get_close_matches(name, VERBS, n=1)
    hint = f"did you mean `accord {near[0]}`?" if near else f"the verbs are {', '.join(VERBS)}"
    return ConfigError(f"there is no verb {name!r}; {hint}")


def _overview() -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, verb in VERBS.items():
        table.add_row(f"accord {name}", (verb.__doc__ or "").strip())
    print("accord aligns a language model with people. One verb a step:\n")
    Console(highlight=False).print(table)
    print("\n`accord VERB --help` explains its settings.")


if __name__ == "__main__":
    main()
