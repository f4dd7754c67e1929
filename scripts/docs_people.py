#!/usr/bin/env python3
"""The page on real people, written from what benchmarks/consensus_people.py measured.

    scripts/docs_people.py           writes docs/people.md and its figure from docs/figures/people.json
    scripts/docs_people.py RESULT    takes the last line of RESULT as the new figures first

No figure on the page is typed by hand, and where a difference is not shown the page says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, RESULT = DOCS / "people.md", DOCS / "figures" / "people.json"
NONE = "undefined"
METHODS = ("consensus", "majority", "Borda", "consensus less majority", "consensus less Borda")

WHAT = {
    "SQuALITY": "reviewers rank summaries of short stories, without ties",
    "PandaLM": "annotators choose between two answers to an instruction, or call a tie; the publisher kept "
    "pairs of high agreement",
    "Tulu": "evaluators choose between two models' answers, or call a tie; most pairs have one evaluator",
    "Breakfast": "respondents order breakfast items for each of six occasions: tastes, and no truth",
    "MTurk": "workers order four pictures of dots by number, or four puzzles by moves to the goal; the true "
    "order is known; ballots come without names",
}

INTRO = """# Real people

<!-- Written by scripts/docs_people.py from docs/figures/people.json; do not edit. -->

Simulated labelers err as their simulator wills. These figures are of [the consensus](agree.md) on public
sets of real judgements. `benchmarks/consensus_people.py` takes them, and this page is written from its
output. The sets themselves are not part of accord.
"""

AGREE = """## How far people agree

Each figure stands with its 95 % interval, prompts resampled, and chance where it is not 0.
"""

AGREE_NOTES = """\
- **Pair agreement** is the share on which two labelers say the same of first, tie, second. Half credit
  gives one half where just one calls a tie. Read it next to chance, which rises as ties get rarer or very
  common.
- **Krippendorff's alpha** takes chance off: 1 is agreement without exception, 0 chance. Ordinal alpha is of
  ranks within a prompt, nominal alpha of pair outcomes. Content analysts ask for 0.8 and draw tentative
  conclusions from 0.667 (Krippendorff 2004). Preferences seldom reach either, and a reward model learns from
  them all the same.
- **Kendall's W** is defined where all labelers of a prompt ranked the same completions. It is 1 where all
  rank alike and 1 / labelers by chance, so that values of few labelers and of many do not compare.
- **Leave-one-out tau-b** is each labeler's mean Kendall tau-b with the mean Borda count of the others.
  The least of them is the first to look at.
"""

HELD_OUT = """## Is a person foretold by the others?

Each labeler in turn is left out (at breakfast, a group of respondents at a time). The others' rankings say
which of two completions is better, and the held-out labeler's own order says whether they were right. A
method that does not decide earns one half. Read a reward model's accuracy on people's pairs next to these:
people do not foretell one another without error either.
"""

LOSS = """\
A reward model learns from `p_chosen` and not from the sign alone. Log loss, in nats a pair, tells how well
the consensus knows its own sureness; a coin has 0.693, and less is better. The votes' shares are drawn
towards one half by as many added votes as suit the very pairs they are judged on, which favours them.
"""

TRUTH = """## A known truth

Ballots are drawn at random from all that the workers cast on each task. Pair accuracy is against the true
order; Kendall's tau-a is twice that less 1. Ballots have no names: ten stand-ins share them, so there is
no reliability to learn, and the consensus can at best match the best of the simple counts. The question is
whether it costs anything; it counts labelers alike unless the evidence that they differ is strong. Intervals
are over draws of ballots from the same eight tasks.
"""

LIMITS = """## What this does not show

- **A person foretold is not a truth found.** On the first four sets the judge is one more labeler.
- **Where labelers are few and alike, weighing them gains little.** The consensus pulls ahead where some
  labelers are careless or contrary; these sets were collected with care, and PandaLM's were filtered. For
  planted carelessness see `benchmarks/consensus.py`.
- **Differences whose interval holds 0 are not differences.** The tables say "not shown" there.
- **Intervals hold the labelers fixed**, except at breakfast, where six prompts are too few to resample and
  labelers are resampled instead. Other labelers may differ by more.
"""


def main() -> None:
    """Write the page, its figure and, if given, its data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", nargs="?", type=Path, help="output of benchmarks/consensus_people.py")
    result = parser.parse_args().result
    if result is not None:
        measured = json.loads(result.read_text(encoding="utf-8").splitlines()[-1])
        if measured["quick"]:
            raise SystemExit(f"{result} is of --quick, whose figures mean nothing; run it without")
        RESULT.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    data = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(page(data), encoding="utf-8")
    print(f"wrote {PAGE}")
    draw(data)


def page(data: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    everyone = {**data["sets"], "MTurk": data["crowd"]}
    parts = [
        INTRO,
        table(("set", "what people did", "prompts", "labelers", "rankings", "completions"), [
            (name, WHAT[name], s["prompts"], "no names" if name == "MTurk" else s["labelers"], s["rankings"],
             s["completions"]) for name, s in everyone.items()
        ]),
        AGREE,
        table(("set", "pair agreement", "with half credit", "alpha, ordinal", "alpha, nominal", "Kendall's W",
               "leave-one-out tau-b: least, median, greatest"),
              [agreement_row(name, s["agreement"]) for name, s in everyone.items()]),
        AGREE_NOTES,
        HELD_OUT,
        table(("set", "pairs", *METHODS),
              [held_out_row(name, s["held_out"]) for name, s in data["sets"].items()]),
        verdicts(data),
        LOSS,
        table(("set", "consensus", "vote shares", "consensus less vote shares"),
              [loss_row(name, s["held_out"]) for name, s in data["sets"].items()]),
        TRUTH,
        table(("ballots a task", *METHODS),
              [truth_row(row) for row in data["crowd"]["by_ballots"]]),
        truth_verdict(data["crowd"]["by_ballots"]),
        "![Pair accuracy against the true order by the number of ballots](figures/people.svg)\n",
        LIMITS,
    ]  # fmt: skip
    return "\n".join(parts)


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table of Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def share(figure: Mapping[str, float], digits: int = 2, sign: str = "") -> str:
    """A value with its interval below it."""
    low, high = (f"{figure[end]:{sign}.{digits}f}" for end in ("low", "high"))
    return f"{figure['value']:{sign}.{digits}f}<br>[{low},&nbsp;{high}]"


def agreement_row(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [name]
    for key in ("exact", "half", "alpha_ordinal", "alpha_nominal", "kendall_w"):
        figure = figures[key]
        if figure["interval"] is None:
            cells.append(f"{NONE}: {figure['why']}")
            continue
        chance = f"<br>chance&nbsp;{figure['chance']:.2f}" if figure["chance"] is not None else ""
        cells.append(share(figure["interval"]) + chance)
    taus = figures.get("leave_one_out_tau")
    cells.append(", ".join(f"{taus[k]:.2f}" for k in ("least", "median", "greatest")) if taus else "no names")
    return tuple(cells)


def difference(figure: Mapping[str, float], more_is_better: bool = True, digits: int = 3) -> str:
    """A difference with its interval and what it shows."""
    verdict = "not shown"
    if figure["low"] > 0 or figure["high"] < 0:
        verdict = "**better**" if (figure["low"] > 0) == more_is_better else "**worse**"
    return f"{share(figure, digits, '+')}<br>{verdict}"


def held_out_row(name: str, held: Mapping[str, Any]) -> tuple[Any, ...]:
    methods = (share(held[m], 3) for m in ("consensus", "majority", "borda"))
    return (
        name,
        held["pairs"],
        *methods,
        *(difference(held[f"consensus_minus_{m}"]) for m in ("majority", "borda")),
    )


def loss_row(name: str, held: Mapping[str, Any]) -> tuple[str, ...]:
    losses = (share(held[f"log_loss_{m}"], 3) for m in ("consensus", "votes"))
    return (name, *losses, difference(held["log_loss_consensus_minus_votes"], more_is_better=False))


def truth_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    methods = (share(row[m], 3) for m in ("consensus", "majority", "borda"))
    return (
        row["ballots"],
        *methods,
        *(difference(row[f"consensus_minus_{m}"]) for m in ("majority", "borda")),
    )


def verdicts(data: Mapping[str, Any]) -> str:
    """In words, where the consensus is better than majority vote at foretelling, and where it is not."""

    def named(holds: Callable[[Mapping[str, float]], bool]) -> str:
        names = [n for n, s in data["sets"].items() if holds(s["held_out"]["consensus_minus_majority"])]
        return ", ".join(names) or "none of the sets"

    undecided = ", ".join(
        f"{name} {s['held_out']['undecided_majority']['value']:.0%}" for name, s in data["sets"].items()
    )
    better, worse = named(lambda d: d["low"] > 0), named(lambda d: d["high"] < 0)
    level = named(lambda d: d["low"] <= 0 <= d["high"])
    return (
        f"By the sign alone the consensus is better than majority vote on {better}, worse on {worse}, and "
        f"not told apart from it on {level}. It can only differ where labelers disagree: the others' votes "
        f"are split evenly on this share of the pairs: {undecided}.\n"
    )


def truth_verdict(rows: list[Mapping[str, Any]]) -> str:
    """In words, at how many ballots the consensus differs from the simple counts."""

    def named(method: str, end: str, sign: int) -> str:
        sizes = [str(r["ballots"]) for r in rows if sign * r[f"consensus_minus_{method}"][end] > 0]
        return f"{', '.join(sizes)} ballots a task" if sizes else "no number of ballots"

    return (
        " ".join(
            f"Against {label} the consensus is worse at {named(method, 'high', -1)}, better at "
            f"{named(method, 'low', 1)}."
            for method, label in (("majority", "majority vote"), ("borda", "Borda counts"))
        )
        + "\n"
    )


def draw(data: Mapping[str, Any]) -> None:
    """Accuracy on the tasks of known order, by ballots."""
    import matplotlib

    from docs_figures import BLUE, GREEN, ORANGE, STYLE, panels, save  # loads torch: only to draw

    with matplotlib.rc_context(STYLE):
        canvas, (axes,) = panels(1, 1, 5.6, 3.2)
        rows = data["crowd"]["by_ballots"]
        ballots = [row["ballots"] for row in rows]
        for method, colour in (("majority", ORANGE), ("borda", GREEN), ("consensus", BLUE)):
            low, value, high = ([row[method][k] for row in rows] for k in ("low", "value", "high"))
            axes.fill_between(ballots, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(ballots, value, color=colour, label=method)
        axes.set_xscale("log")
        axes.set_xticks(ballots, [str(n) for n in ballots])
        axes.minorticks_off()
        axes.set_xlabel("ballots a task")
        axes.set_ylabel("pair accuracy")
        axes.legend(loc="lower right", fontsize=8.5)
        save(canvas, "people")


if __name__ == "__main__":
    main()
