#!/usr/bin/env python3
"""The figures of the documentation, drawn from what the code computes.

    scripts/docs_figures.py            the two that need no data: KL estimators, Davidson's model
    scripts/docs_figures.py DEMO       also those of a demo's folder (its report.json)

Colours are of middle lightness, so that a figure reads on a light and on a dark page.

Legend: N estimates, S samples of one, V vocabulary.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accord.evaluate.reportdata import ReportData
from accord.rl.kl import exact_kl, k1, k2, k3
from accord.stats.davidson import probabilities

OUT = Path(__file__).resolve().parent.parent / "docs" / "figures"
INK, BLUE, ORANGE, GREEN = "#7d7d7d", "#3f8ac9", "#d17f2a", "#3f9a67"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "accord",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
}


def main() -> None:
    """Draw what can be drawn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", nargs="?", type=Path, help="folder that `accord demo` made")
    demo = parser.parse_args().demo
    with matplotlib.rc_context(STYLE):
        save(kl_estimators(), "kl")
        save(davidson(), "davidson")
        if demo is not None:
            data = ReportData.from_json((demo / "report.json").read_text(encoding="utf-8"))
            save(calibration(data), "calibration")
            save(training(data), "training")


def kl_estimators() -> Figure:
    """k1, k2 and k3 against the exact KL of two softmaxes over a small vocabulary, by number of samples."""
    generator = torch.Generator().manual_seed(0)
    logits_1V = 1.5 * torch.randn(1, 64, generator=generator)
    ref_logits_1V = logits_1V + 0.6 * torch.randn(1, 64, generator=generator)
    exact = float(exact_kl(logits_1V, ref_logits_1V))
    logp_V, logq_V = logits_1V.log_softmax(-1)[0], ref_logits_1V.log_softmax(-1)[0]
    sizes = [1, 3, 10, 30, 100, 300, 1000]
    canvas, axes = panels(1, 3, 7.4, 2.6)
    for one, (name, estimator), colour in zip(
        axes, (("k1", k1), ("k2", k2), ("k3", k3)), (BLUE, ORANGE, GREEN), strict=True
    ):
        bands = []
        for size in sizes:
            ids_NS = torch.multinomial(logp_V.exp(), 2000 * size, True, generator=generator).view(2000, size)
            bands.append(estimator(logp_V[ids_NS], logq_V[ids_NS]).mean(1).numpy())
        low, high = np.quantile(bands, (0.05, 0.95), axis=1)
        one.fill_between(sizes, low, high, color=colour, alpha=0.25, linewidth=0)
        one.plot(sizes, [band.mean() for band in bands], color=colour)
        one.axhline(exact, color=INK, linestyle=(0, (3, 3)), linewidth=1.2)
        one.set_xscale("log")
        one.set_title(name)
        one.set_xlabel("sampled tokens")
    axes[0].set_ylabel("nats a token")
    axes[0].annotate(
        "exact", (300, exact), (300, exact + 0.3), ha="center", arrowprops={"arrowstyle": "-", "color": INK}
    )
    for one in axes[1:]:
        one.sharey(axes[0])
    return canvas


def davidson() -> Figure:
    """Win, tie and loss against the difference of two scores, for two labelers."""
    difference = np.linspace(-3, 3, 121)
    canvas, axes = panels(1, 2, 7.4, 2.7)
    for one, title, reliability, tie in (
        (axes[0], "reliability 3, nu 0.5", 3.0, 0.5),
        (axes[1], "reliability 1.5, nu 2", 1.5, 2.0),
    ):
        curves = probabilities(difference, reliability, float(np.log(tie)))
        for values, label, colour in zip(
            curves, ("first better", "tie", "second better"), (BLUE, GREEN, ORANGE), strict=True
        ):
            one.plot(difference, values, color=colour, label=label)
        one.set_title(title)
        one.set_xlabel("difference of scores")
        one.set_ylim(0, 1)
    axes[0].set_ylabel("probability")
    axes[0].legend(loc="center left", fontsize=8.5)
    return canvas


def calibration(data: ReportData) -> Figure:
    """How sure the demo's reward model is, against how often the labelers chose the same."""
    assert data.reward is not None
    bins = data.reward.calibration
    canvas, (axes,) = panels(1, 1, 4.4, 3.2)
    axes.plot([0.5, 1], [0.5, 1], color=INK, linestyle=(0, (3, 3)), linewidth=1.2)
    predicted, observed = [b.predicted for b in bins], [b.observed for b in bins]
    counts = np.array([b.count for b in bins], dtype=float)
    axes.plot(predicted, observed, color=BLUE)
    axes.scatter(predicted, observed, s=15 + 120 * counts / counts.max(), color=BLUE, linewidths=0)
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("observed share")
    return canvas


def training(data: ReportData) -> Figure:
    """The demo's reward, gold score and KL over the steps of PPO."""
    assert data.training is not None
    series, steps = data.training.series, data.training.steps
    canvas, axes = panels(1, 3, 7.4, 2.5)
    for one, names, title in zip(
        axes,
        (("reward",), ("gold",), ("kl_exact", "kl_sampled")),
        ("reward", "gold score (simulated truth)", "KL, nats a completion"),
        strict=True,
    ):
        for name, colour in zip(names, (BLUE, ORANGE), strict=False):
            values = np.array([np.nan if v is None else v for v in series[name]], dtype=float)
            one.plot(steps, values, color=colour, label=name.removeprefix("kl_"))
        one.set_title(title)
        one.set_xlabel("step")
    axes[2].legend(loc="best", fontsize=8.5)
    return canvas


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, side by side."""
    canvas = Figure(figsize=(width, height), layout="constrained")
    return canvas, list(np.atleast_1d(canvas.subplots(rows, columns)).ravel())


def save(canvas: Figure, name: str) -> None:
    """Write ``name.svg``: transparent, without date; the same figures, the same bytes."""
    path = OUT / f"{name}.svg"
    canvas.savefig(path, transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = re.sub(r"\n\s*<metadata>.*?</metadata>", "", path.read_text(encoding="utf-8"), flags=re.S)
    path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.M), encoding="utf-8")
    print(f"wrote {path} ({path.stat().st_size // 1024} kB)")


if __name__ == "__main__":
    main()
