"""What a verb shows: figures on standard output, progress and notes on standard error."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

err = Console(stderr=True, highlight=False)


class Bar:
    """A progress bar on standard error: steps done, rate, time left, and the figures that matter."""

    def __init__(self, name: str, quiet: bool = False, *figures: str) -> None:
        self.figures = figures
        self.progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[shown]}"),
            console=err,
            disable=quiet,
        )
        self.task = self.progress.add_task(name, total=None, shown="")

    def __call__(self, metrics: Mapping[str, float]) -> None:
        self.progress.start()  # only now: an error before the first step shall not follow an empty bar
        task = self.progress.tasks[0]
        rate = f"{task.speed:.2f}/s " if task.speed else ""
        shown = rate + "  ".join(f"{key} {metrics[key]:.3f}" for key in self.figures if key in metrics)
        self.progress.update(
            self.task, completed=metrics["step"], total=metrics["steps"], shown=shown.strip()
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def print_figures(figures: Mapping[str, Any], json: bool) -> None:
    """Figures on standard output: a line each, or one JSON object."""
    if json:
        print(jsonlib.dumps(figures, default=str))
        return
    flat: dict[str, Any] = {}
    for key, value in figures.items():
        flat |= (
            {f"{key}.{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {key: value}
        )
    figures = {key: value for key, value in flat.items() if value not in (None, "")}
    width = max(len(key) for key in figures)
    for key, value in figures.items():
        print(f"{key:<{width}}  {f'{value:.4f}' if isinstance(value, float) else value}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)
    print()


def with_bounds(interval: Any) -> str:
    """An interval as ``value (low to high)``; a dash where there is none."""
    return "-" if interval is None else f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def signed(value: float, low: float | None, high: float | None) -> str:
    """A difference with its sign, and its bounds where it has some."""
    return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
