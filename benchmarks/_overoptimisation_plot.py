"""The plot of over-optimisation: reward and gold against sqrt(KL), best of n beside PPO, with gold's laws."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"single": "#b3530b", "variance": "#0a7d73", "worst": "#5b63b7"}
LEGENDS = {
    "single": "one reward model",
    "variance": "ensemble, mean - variance/2",
    "worst": "ensemble, worst",
}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "overoptimisation",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "xtick.color": "#8a8a8a",
    "ytick.color": "#8a8a8a",
    "axes.labelcolor": "#8a8a8a",
    "text.color": "#8a8a8a",
    "axes.titlecolor": "#8a8a8a",
    "legend.frameon": False,
}


def draw(figures: Mapping[str, Any]) -> str:
    """The SVG: mid-grey ink on nothing, so that it reads on light and dark pages."""
    panels = 1 + ("ppo" in figures)
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(3.9 * panels, 5.2), layout="constrained")
        axes = canvas.subplots(2, panels, squeeze=False, sharex="col", height_ratios=(2, 3))
        _best_of_n(*axes[:, 0], figures["best_of_n"])
        if panels > 1:
            _ppo(*axes[:, 1], figures["ppo"])
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+\n", "\n", buffer.getvalue())


def _best_of_n(above: Axes, below: Axes, figures: Mapping[str, Any]) -> None:
    d = np.sqrt(figures["kl"])
    for kind, colour in COLOURS.items():
        above.plot(d, [p["value"] for p in figures["proxy"][kind]], color=colour, linewidth=1.2)
        _band(below, d, figures["gold"][kind], colour, LEGENDS[kind])
        _law(below, d, figures["laws"][kind], figures["start_gold"], colour)
    above.set_title(f"best of n, 1 to {figures['n'][-1]}")
    above.set_ylabel("its own reward")
    below.set_xlabel("square root of KL (nats)")
    below.set_ylabel("gold score")
    below.legend(loc="best")


def _ppo(above: Axes, below: Axes, figures: Mapping[str, Any]) -> None:
    for kind in ("single", "variance"):
        part, colour = figures[kind], COLOURS[kind]
        d = np.sqrt([max(0.0, p["value"]) for p in part["kl"]])
        for axes, key in ((above, "proxy"), (below, "gold")):
            axes.plot(d, [p["value"] for p in part[key]], ".", markersize=4, color=colour)
        _law(below, d, part["law"], figures["start_gold"]["value"], colour)
    above.set_title("PPO, each step")
    below.set_xlabel("square root of KL (nats)")


def _band(axes: Axes, d: np.ndarray, points: Sequence[Mapping[str, Any]], colour: str, legend: str) -> None:
    value, low, high = (np.array([p[key] for p in points], np.float64) for key in ("value", "low", "high"))
    axes.plot(d, value, "o", markersize=3.5, color=colour, label=legend)
    axes.fill_between(d, low, high, color=colour, alpha=0.12, linewidth=0)


def _law(axes: Axes, d: np.ndarray, law: Mapping[str, Any], start: float, colour: str) -> None:
    x = np.linspace(1e-6, float(d.max()), 200)
    bend = np.log(x) if "log" in law["form"] else x
    axes.plot(
        x, start + x * (law["alpha"]["value"] - law["beta"]["value"] * bend), color=colour, linewidth=1.2
    )
