"""What a reward model gets right on prompts it never saw in training.

Legend: N completions, P pairs, M anchors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accord.lm.classifier import SequenceClassifier
from accord.lm.grouped import Lost, OverLong, PromptGroup
from accord.reward.loss import Objective
from accord.reward.model import RewardModel, one_number
from accord.stats.calibration import log_loss
from accord.stats.intervals import Interval, clustered_mean
from accord.stats.label_noise import flip_rate

Array = NDArray[np.float64]
UNKNOWN = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Reliability:
    """Pairs binned by predicted probability: mean prediction, observed share, count."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True)
class AnchorReport:
    """What became of the anchors: P(acceptable) = sigma(a logit + b)."""

    used: bool
    """Whether they trained and fix the reward's zero; else too few were good or too few bad."""
    train: int
    holdout: int
    good: float
    """Share of good among those trained on."""
    a: float
    b: float
    log_loss: float
    """Held out, in nats; NaN where none is held out..."""
    base_log_loss: float
    """...and that of saying the share of good each time."""


@dataclass(frozen=True)
class RewardReport:
    """What is known of a reward model: figures on prompts it never saw in training.

    Figures of pairs are NaN where it was trained on anchors alone.
    """

    pairs_train: int
    pairs_holdout: int
    prompts_train: int
    prompts_holdout: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    length_only_accuracy: float
    """Accuracy of "the longer one wins" on the same pairs."""
    length_correlation: float
    """Pearson correlation of reward with length in characters."""
    reliability: tuple[Reliability, ...]
    chosen_scores: tuple[float, ...]
    """Standardised rewards of the held-out pairs' chosen completions."""
    rejected_scores: tuple[float, ...]
    history: tuple[dict[str, float], ...]
    truncated: int
    """Inputs too long for the context: cut or left out, as ``lost.rule`` says."""
    lost: Lost
    label_noise: float
    """Flip rate of the held-out labels (stats.label_noise): a ceiling for their errors."""
    label_noise_low: float
    label_noise_high: float
    anchors: AnchorReport | None
    """``None`` where there were none."""
    nu: float | None
    """Davidson's tie propensity, where ties were modelled."""
    held_out: tuple[str, ...] = ()
    """Ids of the prompts that were not trained on."""

    @property
    def still_falling(self) -> bool:
        """Whether the held-out loss was lowest at the last of several looks: more epochs may help."""
        looks = [row["held_out_log_loss"] for row in self.history if "held_out_log_loss" in row]
        return len(looks) > 1 and looks[-1] < min(looks[:-1])

    def rows(self) -> list[tuple[str, str]]:
        """The figures as people read them, by name; what is undefined is left out."""
        rows = []
        if self.pairs_holdout:
            rows = [
                ("accuracy", f"{self.accuracy:.1%} ({self.accuracy_low:.1%} to {self.accuracy_high:.1%})"),
                ("always the longer", f"{self.length_only_accuracy:.1%}"),
                ("log-loss", f"{self.log_loss:.4f}"),
                ("labels that look flipped", f"{self.label_noise:.1%} ({self.label_noise_low:.0%} to "
                 f"{self.label_noise_high:.0%})"),
            ]  # fmt: skip
        rows.append(("correlation with length", f"{self.length_correlation:+.2f}"))
        if self.still_falling:
            rows.append(("held-out loss", "lowest at the end: more epochs may help"))
        if self.anchors is not None:
            used = "they fix the zero" if self.anchors.used else "too few of one kind: not used"
            told = f"{self.anchors.good:.0%} good; {used}"
            if self.anchors.used and self.anchors.holdout:
                told += f"; log-loss {self.anchors.log_loss:.4f} ({self.anchors.base_log_loss:.4f} by share)"
            rows.append(("acceptable or not", told))
        done = "left out" if self.lost.rule is OverLong.LEAVE_OUT else "cut"
        lost = f"{self.lost.inputs} {done}"
        if self.lost.pairs or self.lost.anchors:
            lost += f", with {self.lost.pairs} comparisons and {self.lost.anchors} anchors"
        return [*rows, ("inputs too long for the context", lost)]


@dataclass(frozen=True)
class Measured:
    """Per pair of some groups: log-odds, label, length difference, prompt; and per completion its reward."""

    d_P: Array
    p_P: Array
    longer_P: Array
    clusters_P: list[str]
    rewards_N: Array


def measure(classifier: SequenceClassifier, groups: Sequence[PromptGroup]) -> Measured:
    """Score every completion of ``groups`` once."""
    logits_NL = classifier.score_inputs([x for g in groups for x in g.inputs])
    rewards = one_number(logits_NL).double().numpy()
    d, p, longer, clusters, offset = [], [], [], [], 0
    for group in groups:
        cluster = group.cluster
        for pair in group.pairs:
            d.append(rewards[offset + pair.chosen] - rewards[offset + pair.rejected])
            p.append(pair.p_chosen)
            texts = group.completions
            longer.append(len(texts[pair.chosen].text) - len(texts[pair.rejected].text))
            clusters.append(cluster)
        offset += len(group.inputs)
    return Measured(np.array(d, np.float64), np.array(p), np.array(longer), clusters, rewards)


def cross_entropy(log_odds: ArrayLike, p: ArrayLike) -> float:
    """Mean of -[p log sigma(x) + (1 - p) log sigma(-x)] in nats; NaN where there is nothing."""
    return log_loss(log_odds, p) if len(np.asarray(p)) else math.nan


def held_out_loss(measured: Measured, objective: Objective, groups: Sequence[PromptGroup]) -> float:
    """What decides which weights are kept: log-loss of the pairs, each as much as its source counts; of the
    anchors where there are no pairs."""
    if len(measured.d_P):
        weights_P = np.array([pair.weight for group in groups for pair in group.pairs])
        if not np.ptp(weights_P):
            return cross_entropy(measured.d_P, measured.p_P)
        each_P = [cross_entropy([d], [p]) for d, p in zip(measured.d_P, measured.p_P, strict=True)]
        return float(np.average(each_P, weights=weights_P))
    return cross_entropy(*_marked(measured, objective, groups))


def report_on(
    model: RewardModel,
    objective: Objective,
    sides: tuple[Sequence[PromptGroup], Sequence[PromptGroup]],
    lost: Lost,
    history: tuple[dict[str, float], ...],
) -> RewardReport:
    """The report; ``sides`` are the groups trained on and those held out."""
    trained, held = sides
    found = measure(model.classifier, held)
    decided = found.p_P > 0.5
    clusters = [c for c, each in zip(found.clusters_P, decided, strict=True) if each]
    rng = np.random.default_rng(0)
    right = (np.sign(found.d_P[decided]) + 1) / 2  # equal rewards count half
    accuracy = clustered_mean(right, clusters, rng) if clusters else UNKNOWN
    noise = flip_rate(found.d_P, found.p_P, found.clusters_P, rng) if len(found.d_P) else UNKNOWN
    longer = (np.sign(found.longer_P[decided]) + 1) / 2
    lengths = np.array([len(c.text) for g in held for c in g.completions], dtype=float)
    correlation = 0.0
    if len(lengths) > 1 and found.rewards_N.std() > 0 and lengths.std() > 0:
        correlation = float(np.corrcoef(found.rewards_N, lengths)[0, 1])
    chosen, rejected = _sides(model, held, found.rewards_N)
    return RewardReport(
        pairs_train=sum(len(g.pairs) for g in trained),
        pairs_holdout=len(found.d_P),
        prompts_train=len(trained),
        prompts_holdout=len(held),
        accuracy=accuracy.value,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        log_loss=cross_entropy(found.d_P, found.p_P),
        length_only_accuracy=float(longer.mean()) if clusters else math.nan,
        length_correlation=correlation,
        reliability=reliability(found.d_P, found.p_P),
        chosen_scores=chosen,
        rejected_scores=rejected,
        history=history,
        truncated=lost.inputs,
        lost=lost,
        label_noise=noise.value,
        label_noise_low=noise.low,
        label_noise_high=noise.high,
        anchors=_anchors(objective, trained, held, found),
        nu=math.exp(float(objective.log_nu.detach())) if objective.davidson else None,
        held_out=tuple(group.prompt.id for group in held),
    )


def _sides(
    model: RewardModel, groups: Sequence[PromptGroup], logits_N: Array
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The standardised rewards of every pair's chosen and rejected completions."""
    chosen, rejected, offset = [], [], 0
    for group in groups:
        for pair in group.pairs:
            chosen.append(model.standardised(float(logits_N[offset + pair.chosen])))
            rejected.append(model.standardised(float(logits_N[offset + pair.rejected])))
        offset += len(group.inputs)
    return tuple(chosen), tuple(rejected)


def _marked(
    measured: Measured, objective: Objective, groups: Sequence[PromptGroup]
) -> tuple[list[float], list[float]]:
    """Log-odds of being acceptable and label, of each anchor."""
    log_odds, good, offset = [], [], 0
    for group in groups:
        for mark in group.marks:
            log_odds.append(objective.a * measured.rewards_N[offset + mark.completion] + objective.offset)
            good.append(mark.p_good)
        offset += len(group.inputs)
    return log_odds, good


def _anchors(
    objective: Objective, trained: Sequence[PromptGroup], held: Sequence[PromptGroup], found: Measured
) -> AnchorReport | None:
    marks = [mark for group in trained for mark in group.marks]
    log_odds, good = _marked(found, objective, held)
    if not marks and not good:
        return None
    share = sum(mark.p_good for mark in marks) / len(marks) if marks else math.nan
    base = math.log(share / (1 - share)) if 0 < share < 1 else math.nan
    return AnchorReport(
        used=objective.anchored,
        train=len(marks),
        holdout=len(good),
        good=share,
        a=objective.a,
        b=objective.offset,
        log_loss=cross_entropy(log_odds, good) if objective.anchored else math.nan,
        base_log_loss=cross_entropy([base] * len(good), good) if math.isfinite(base) else math.nan,
    )


def reliability(d_P: Array, p_P: Array, bins: int = 10) -> tuple[Reliability, ...]:
    """Calibration of sigma(d) over [0.5, 1]: each pair is turned so that the model prefers its first."""
    predicted = 1 / (1 + np.exp(-np.abs(d_P)))
    observed = np.where(d_P >= 0, p_P, 1 - p_P)
    index = np.minimum(((predicted - 0.5) * 2 * bins).astype(int), bins - 1)
    return tuple(
        Reliability(
            float(predicted[index == b].mean()), float(observed[index == b].mean()), int((index == b).sum())
        )
        for b in range(bins)
        if (index == b).any()
    )
