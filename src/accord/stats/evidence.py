"""The prior on labelers' reliability, chosen by the votes themselves.

With few votes a labeler the prior decides how far one may be weighed above another. A wide one lets a small
pool elect an oracle by luck; a narrow one counts a careless labeler like a careful one. So a handful of
priors N(mean, sd) is fitted, and the evidence of each compared: the probability of the votes with scores
and labelers' parameters integrated out, the latter by Laplace's method,

    log p(votes) = log p(votes | theta) + log p(theta) + T/2 log 2 pi + 1/2 log |cov|    at the maximum theta

Of the mean itself N(1, 2) is believed (``VAGUE``), so that a few rankings that agree make nobody infallible.
Labelers are taken to be alike unless priors under which they differ are better by ``STRONG``. The means
are multiples of the reliability that all rankings have under one name, which is too low where labelers
differ. Shapes: see ``davidson``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from accord.errors import NumericsError
from accord.stats.davidson import Array, Index, Votes
from accord.stats.maximum import OPEN, VAGUE, Prior, climb, finish, maximise, spread

PROMPTS, VOTES = 300, 15_000
"""On how many priors are compared at most; the evidence is scaled to all votes. With many, the prior matters
little."""
MEANS = (1.0, 1.5, 2.5)
"""Candidates for the mean, in multiples of the reliability of all rankings under one name."""
SPREADS = (0.3, 0.6, 1.2)
"""Candidates for the standard deviation, in multiples of the mean."""
ALIKE = 0.05
"""The same for labelers who are all alike."""
LEAST = 0.3
"""The least mean tried: labelers no better than chance would leave the scores without a sign."""
STRONG = 3.0
"""Nats (odds of 20 to 1) by which differing labelers must explain the votes better than labelers who are
alike; Kass and Raftery (1995) call that strong evidence. In simulation and on real ballots a lower bar lets
luck elect labelers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The prior a fit used, and what spoke for it."""

    prior: Prior
    gain: float | None = None
    """By how many nats the best prior under which labelers differ is better than labelers who are all alike;
    ``None`` where the two were not compared."""
    alike: bool = False
    """Whether labelers were taken to be alike."""


def choose(votes: Votes, prior: Prior = OPEN) -> tuple[Choice, Array]:
    """The prior with its open parts chosen by evidence, and labelers' parameters (T) to start a fit from.

    Raises :class:`NumericsError` when the fit converges under none of the candidates.
    """
    if prior.reliability_mean is not None and prior.reliability_sd is not None:
        return Choice(prior), prior.moments(votes.n_labelers)[0]
    part, present_K = _part(votes)
    scale = float(votes.weight_V.sum() / max(1e-9, part.weight_V.sum()))
    pooled_3 = _pooled(part, prior)
    found: list[tuple[float, Prior, Array]] = []
    failure: NumericsError | None = None
    theta_T = np.repeat(pooled_3, part.n_labelers)
    for candidate in _candidates(prior, max(LEAST, float(pooled_3[0]))):
        try:
            evidence, theta_T = _evidence(part, theta_T, candidate)
        except NumericsError as error:
            failure = error
        else:
            found.append((scale * evidence + _belief(candidate), candidate, theta_T))
    if not found:
        raise failure or NumericsError("no prior to choose from")
    choice, best_T = _best(found)
    start_T = choice.prior.moments(votes.n_labelers)[0].reshape(3, -1)
    start_T[:, present_K] = best_T.reshape(3, -1)
    return choice, start_T.ravel()


def _part(votes: Votes) -> tuple[Votes, Index]:
    """The votes on some prompts, labelers without a vote there left out, and the numbers of the others."""
    affordable = len(votes.sizes_P) * VOTES // max(1, len(votes.site_V))
    part = spread(votes, max(1, min(PROMPTS, affordable)))
    present_K, labeler_V = np.unique(part.labeler_V, return_inverse=True)
    return replace(part, labeler_V=labeler_V, n_labelers=len(present_K)), present_K


def _pooled(votes: Votes, prior: Prior) -> Array:
    """The parameters (3) of one labeler who gave all votes."""
    one = replace(votes, labeler_V=np.zeros_like(votes.labeler_V), n_labelers=1)
    vague = replace(prior, reliability_mean=VAGUE[0], reliability_sd=VAGUE[1])
    return finish(one, climb(one, vague.moments(1)[0], vague), vague)[0]


def _candidates(prior: Prior, usual: float) -> Iterator[Prior]:
    """Priors to compare, labelers who are alike first; ``usual`` is the reliability under one name."""
    fixed_mean, fixed_sd = prior.reliability_mean, prior.reliability_sd
    means = [usual * times for times in MEANS] if fixed_mean is None else [fixed_mean]
    if fixed_sd is None:
        yield replace(prior, reliability_mean=means[0], reliability_sd=ALIKE * means[0])
    for mean in means:
        for sd in [mean * times for times in SPREADS] if fixed_sd is None else [fixed_sd]:
            yield replace(prior, reliability_mean=mean, reliability_sd=sd)


def _evidence(votes: Votes, start_T: Array, prior: Prior) -> tuple[float, Array]:
    """Log evidence under the prior, and the labelers' parameters (T) at the maximum."""
    mean_T, sd_T = prior.moments(votes.n_labelers)
    theta_T, cov_TT, scores = maximise(votes, start_T, prior)
    off_T = (theta_T - mean_T) / sd_T
    log_det = float(np.linalg.slogdet(cov_TT)[1])
    fit = scores.log_evidence - 0.5 * float(off_T @ off_T)
    return fit + 0.5 * log_det - float(np.log(sd_T).sum()), theta_T


def _best(found: list[tuple[float, Prior, Array]]) -> tuple[Choice, Array]:
    """The best candidate, labelers who are alike unless another is better by ``STRONG``."""
    alike = [entry for entry in found if _is_alike(entry[1])]
    differing = [entry for entry in found if not _is_alike(entry[1])]
    if not differing:
        return Choice(alike[0][1], None, True), alike[0][2]
    evidence, prior, theta_T = max(differing, key=lambda entry: entry[0])
    if not alike:
        return Choice(prior), theta_T
    gain = evidence - alike[0][0]
    if gain > STRONG:
        return Choice(prior, gain), theta_T
    return Choice(alike[0][1], gain, True), alike[0][2]


def _belief(prior: Prior) -> float:
    """Log density of the prior's mean, a constant left out."""
    return -0.5 * ((prior.reliability()[0] - VAGUE[0]) / VAGUE[1]) ** 2


def _is_alike(prior: Prior) -> bool:
    mean, sd = prior.reliability()
    return sd == ALIKE * mean
