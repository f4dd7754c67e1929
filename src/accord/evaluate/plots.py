"""The report's figures: matplotlib drawn to SVG, recoloured with the page's CSS variables.

Each figure is drawn in sentinel colours that are then replaced by ``var(--...)``, so it follows the
page into the dark; its text stays text in the page's own font; its ids carry the figure's name, so
that several may stand in one page. Same input, same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from accord.evaluate.reportdata import BestOf, CalibrationBin, RewardSection, TrainingSection

INK, LINE, GRID, ONE, TWO = "#010203", "#010204", "#010205", "#010206", "#010207"
_COLOURS: Mapping[str, str] = {
    INK: "var(--muted)",
    LINE: "var(--line)",
    GRID: "var(--grid)",
    ONE: "var(--series-1)",
    TWO: "var(--series-2)",
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
WIDE, NARROW = 4.6, 3.4
"""Widths in inches: about those at which the page shows them, so that text keeps its size."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.borderpad": 0,
    "legend.handlelength": 1.6,
}


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.add_subplot()
    axes.margins(x=0.02, y=0.12)
    return canvas, axes


def to_svg(canvas: Canvas, name: str, label: str) -> str:
    """The canvas as inline SVG: ids prefixed with ``name``, ``label`` for those who cannot see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        canvas.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # matplotlib's own style element would apply to the whole page; the page's CSS says the same of .plot.
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)
    for sentinel, variable in _COLOURS.items():
        svg = svg.replace(sentinel, variable)
    size = re.search(r'viewBox="[^"]+"', svg)
    assert size is not None
    opening = f'<svg class="plot" role="img" aria-label="{escape(label)}" {size[0]}>'
    return opening + svg[svg.index(">") + 1 :]


def curves(
    training: TrainingSection, names: Sequence[tuple[str, str]], key: str, alt: str, width: float = WIDE
) -> str:
    """One panel of training curves: (series, legend) pairs in ``names``; ``None`` values are left out."""
    with matplotlib.rc_context(_STYLE):
        canvas, axes = _canvas(width, 0.6 * width)
        shown = [pair for pair in names if pair[0] in training.series]
        for (name, legend), colour, dashes in zip(shown, (ONE, TWO), ("-", (0, (4, 2))), strict=False):
            values = np.array([np.nan if v is None else v for v in training.series[name]], dtype=np.float64)
            seen = ~np.isnan(values)
            # A series measured every few steps is joined across the others and dotted where measured.
            sparse = bool(seen.sum() < len(values))
            marker = "o" if sparse or len(values) < 3 else None
            axes.plot(
                np.array(training.steps)[seen], values[seen], color=colour, linestyle=dashes, label=legend,
                marker=marker, markersize=3,
            )  # fmt: skip
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if len(shown) > 1:
            axes.legend(loc="best")
        return to_svg(canvas, key, alt)


def calibration(bins: Sequence[CalibrationBin], key: str) -> str:
    """Predicted against observed preference, the diagonal dashed, areas by the number of comparisons."""
    with matplotlib.rc_context(_STYLE):
        canvas, axes = _canvas(WIDE, 3.1)
        low = min(0.5, *(b.predicted for b in bins), *(b.observed for b in bins))
        axes.plot([low, 1], [low, 1], color=INK, linestyle=(0, (3, 3)), linewidth=1.2)
        counts = np.array([b.count for b in bins], dtype=np.float64)
        axes.plot([b.predicted for b in bins], [b.observed for b in bins], color=ONE, linewidth=1.2)
        axes.scatter(
            [b.predicted for b in bins],
            [b.observed for b in bins],
            s=20 + 130 * counts / max(counts.max(), 1.0),
            color=ONE,
            linewidths=0,
            zorder=3,
        )
        axes.set_xlabel("predicted")
        axes.set_ylabel("observed")
        axes.margins(0.06)
        worst = max(bins, key=lambda b: abs(b.predicted - b.observed))
        alt = (
            f"Calibration in {len(bins)} bins. Furthest from the diagonal: predicted {worst.predicted:.2f}, "
            f"observed {worst.observed:.2f}."
        )
        return to_svg(canvas, key, alt)


def scores(reward: RewardSection, key: str) -> str:
    """Histograms of the hold-out's chosen and rejected scores on common bins."""
    with matplotlib.rc_context(_STYLE):
        canvas, axes = _canvas(WIDE, 3.1)
        both = np.array([*reward.chosen_scores, *reward.rejected_scores], dtype=np.float64)
        edges = np.histogram_bin_edges(both, bins=24).tolist()
        axes.hist(
            reward.rejected_scores,
            edges,
            color=TWO,
            alpha=0.35,
            edgecolor=TWO,
            histtype="stepfilled",
            label="rejected",
        )
        axes.hist(
            reward.chosen_scores,
            edges,
            color=ONE,
            alpha=0.35,
            edgecolor=ONE,
            histtype="stepfilled",
            label="chosen",
        )
        axes.set_xlabel("reward")
        axes.set_ylabel("completions")
        axes.legend(loc="best")
        chosen, rejected = reward.chosen_scores, reward.rejected_scores
        alt = (
            f"Reward of {len(chosen)} chosen completions, mean {np.mean(chosen):.2f}, "
            f"and of {len(rejected)} rejected ones, mean {np.mean(rejected):.2f}."
        )
        return to_svg(canvas, key, alt)


def best_of(points: Sequence[BestOf], key: str) -> str:
    """Gain over one sample, in reward and in gold, against the root of the KL, each with its band."""
    with matplotlib.rc_context(_STYLE):
        canvas, axes = _canvas(WIDE, 3.1)
        root = np.sqrt([p.kl for p in points])
        sides = (("reward", [p.reward for p in points]), ("gold", [p.gold for p in points]))
        for (name, figures), colour, dashes in zip(sides, (ONE, TWO), ("-", (0, (4, 2))), strict=True):
            start = figures[0].value
            low = [(f.value if f.low is None else f.low) - start for f in figures]
            high = [(f.value if f.high is None else f.high) - start for f in figures]
            axes.fill_between(root, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(root, [f.value - start for f in figures], color=colour, linestyle=dashes, label=name,
                      marker="o", markersize=3)  # fmt: skip
        axes.set_xlabel("square root of KL, at most")
        axes.set_ylabel("gain over one sample")
        axes.legend(loc="best")
        last = points[-1]
        alt = (
            f"Best of {last.n}: reward {last.reward.value:.2f}, from {points[0].reward.value:.2f} for one "
            f"sample; gold {last.gold.value:.2f}, from {points[0].gold.value:.2f}."
        )
        return to_svg(canvas, key, alt)
