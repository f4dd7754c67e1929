"""The verb `accord constitute`; ``cli.VERBS`` lists all."""

# Annotations stay objects here, as in cli.py.
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from tyro.conf import OmitArgPrefixes as Flat
from tyro.conf import Positional

from accord.errors import ConfigError
from accord.flags import HERE, Folder, Verb, defaults, given
from accord.terminal import Bar, err, print_figures, print_table, with_bounds
from accord.workspace import Workspace


def constitute(argv: Sequence[str]) -> Verb:
    """Principles instead of people: check, redteam, revise, supervise, judge, prefer."""
    if argv and argv[0] in STEPS:
        return STEPS[argv[0]](argv)
    late = _late(argv)
    if late:
        typed = shlex.join([argv[late], *argv[:late], *argv[late + 1 :]])
        raise ConfigError(f"the step stands first, options behind it: accord constitute {typed}")

    def verb(step: Positional[Literal["check", "redteam", "revise", "supervise", "judge", "prefer"]]) -> int:
        """Principles instead of people. `accord constitute STEP --help` explains each step's settings.

        Args:
            step: check: what is wrong with a constitution. redteam: prompts that provoke. revise: responses
                criticised and mended. supervise: fine-tune on the revisions. judge: measure a judge against
                people. prefer: comparisons by the principles, for `accord reward`.
        """
        raise ConfigError(f"no step {step!r}")  # each known one has a verb of its own

    return verb


def _late(argv: Sequence[str]) -> int:
    """Where a step stands behind options, and is not the value of one; 0 where none does."""
    alone = ("--json", "--resume", "-h", "--help")
    for at in range(1, len(argv)):
        before = argv[at - 1]
        if argv[0].startswith("-") and argv[at] in STEPS and (before in alone or before[:1] != "-"):
            return at
    return 0


def _check(argv: Sequence[str]) -> Verb:
    from accord.constitution.check import check
    from accord.constitution.principles import read

    def verb(step: Positional[Literal["check"]], file: Positional[str] = "", json: bool = False) -> int:
        """Find what is empty, short, double or contradicting in a constitution; exits with 1 if anything is.

        Args:
            step: check.
            file: A .toml file, or the published .jsonl; accord's own unless given.
            json: Print one JSON object.
        """
        constitution = read(file)
        found = check(constitution)
        if not json:
            rows = [
                (one.name, "yes" if one.critique else "-", "yes" if one.choose else "-", f"{one.weight:g}")
                for one in constitution.principle
            ]
            print_table(("principle", "criticises", "chooses", "weight"), rows)
        for one in found:
            err.print(f"{one.kind}: {one.says}", markup=False)
        print_figures(
            {
                "constitution": constitution.name,
                "version": constitution.version,
                "hash": constitution.hash,
                "principles": len(constitution.principle),
                "findings": len(found),
            },
            json,
        )
        return int(bool(found))

    return verb


def _redteam(argv: Sequence[str]) -> Verb:
    from accord.recipes.redteaming import RedteamConfig, redteam

    def verb(
        step: Positional[Literal["redteam"]],
        config: Flat[RedteamConfig] = defaults(argv, "redteam", RedteamConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Add prompts that provoke, and measure what they cover and how often they succeed.

        Args:
            step: redteam.
            workspace: Any folder in the workspace.
            json: Print one JSON object.
        """
        done, covered, found = redteam(Workspace.open(workspace), config)
        if not json:
            print_table(("category", "prompts"), [(k or "-", str(n)) for k, n in covered.categories.items()])
        if found and not json:
            rows = [(r.category or "-", str(r.answers), str(r.harmful), with_bounds(r.share)) for r in found]
            print_table(("category", "answers", "harmful", "share (95 %)"), rows)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def _revise(argv: Sequence[str]) -> Verb:
    from accord.constitution.revise import effects
    from accord.recipes.constitution import ReviseStepConfig, revise

    def verb(
        step: Positional[Literal["revise"]],
        config: Flat[ReviseStepConfig] = defaults(argv, "revise", ReviseStepConfig),
        workspace: Folder = HERE,
        resume: bool = False,
        json: bool = False,
    ) -> int:
        """Respond to the prompts, criticise each response by a principle and mend it, round after round.

        Args:
            step: revise.
            workspace: Any folder in the workspace.
            resume: Go on with the run of these settings that broke off.
            json: Print one JSON object.
        """
        with Bar("revise", json) as bar:
            done, chains = revise(Workspace.open(workspace), config, resume=resume, progress=bar)
        if not json:
            found = effects(chains)
            rows = [
                (r.principle, str(r.drawn), str(r.changed), str(r.unusable), str(r.refused)) for r in found
            ]
            print_table(("principle", "rounds", "changed", "unusable", "of these refused"), rows)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def _supervise(argv: Sequence[str]) -> Verb:
    from accord.recipes.constitution import SuperviseStepConfig, supervise

    def verb(
        step: Positional[Literal["supervise"]],
        config: Flat[SuperviseStepConfig] = defaults(argv, "supervise", SuperviseStepConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Fine-tune the model on the last revision of each of the latest chains.

        Args:
            step: supervise.
            workspace: Any folder in the workspace.
            json: Print one JSON object.
        """
        with Bar("supervise", json, "loss") as bar:
            done, _ = supervise(Workspace.open(workspace), config, progress=bar)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def _judge(argv: Sequence[str]) -> Verb:
    idle = given(argv, OF_PREFER)
    if idle:
        raise ConfigError(
            f"{idle[0]} is of `accord constitute prefer` alone: a judge is measured on pairs that people "
            "compared, and on all of them; --limit says how many, --split of which prompts"
        )
    from accord.recipes.constitution import ConstitutePreferConfig, check_judge

    def verb(
        step: Positional[Literal["judge"]],
        config: Flat[ConstitutePreferConfig] = defaults(argv, "constitute", ConstitutePreferConfig),
        workspace: Folder = HERE,
        limit: int = 100,
        json: bool = False,
    ) -> int:
        """Measure a judge, principle by principle, on pairs on which people agree.

        --pairs, --of, --most-flipped and --most-unusable are of `prefer` and refused here.

        Args:
            step: judge.
            workspace: Any folder in the workspace.
            limit: Pairs, at most.
            json: Print one JSON object.
        """
        done, found = check_judge(Workspace.open(workspace), config, limit=limit)
        if not json:
            rows = [
                (name, with_bounds(r.both), with_bounds(r.accuracy), with_bounds(r.position_bias),
                 f"{r.flips:.0%}", f"{r.unusable:.0%}")
                for name, r in found.principles.items()
            ]  # fmt: skip
            print_table(
                ("principle", "agrees with people", "accuracy", "position bias", "flips", "unusable"), rows
            )
            apart = [(d.one, d.other, str(d.pairs), f"{d.opposed:.0%}") for d in found.pull_apart]
            print_table(("principle", "and", "pairs", "prefer different answers"), apart)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


def _prefer(argv: Sequence[str]) -> Verb:
    from accord.recipes.constitution import ConstitutePreferConfig, prefer

    def verb(
        step: Positional[Literal["prefer"]],
        config: Flat[ConstitutePreferConfig] = defaults(argv, "constitute", ConstitutePreferConfig),
        workspace: Folder = HERE,
        json: bool = False,
    ) -> int:
        """Compare stored completions by the principles; `accord reward` learns them beside people's.

        Args:
            step: prefer.
            workspace: Any folder in the workspace.
            json: Print one JSON object.
        """
        with Bar("prefer", json) as bar:
            done, rows = prefer(Workspace.open(workspace), config, progress=bar)
        if not json:
            table = [
                (r.principle, str(r.pairs), f"{r.sure:.2f}", f"{r.flipped:.0%}", f"{r.unusable:.0%}")
                for r in rows
            ]
            print_table(("principle", "pairs", "sure", "flips", "unusable"), table)
        print_figures({"run": done.id, **done.metrics}, json)
        return 0

    return verb


OF_PREFER = ("--pairs", "--of", "--most-flipped", "--most-unusable")
"""Settings that `judge` shares the section of accord.toml with, and would not heed."""
STEPS: Mapping[str, Callable[[Sequence[str]], Verb]] = {
    "check": _check,
    "redteam": _redteam,
    "revise": _revise,
    "supervise": _supervise,
    "judge": _judge,
    "prefer": _prefer,
}
