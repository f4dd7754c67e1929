"""Thumbs from an application as anchors of a reward model: whose thumb, how much it counts, and whether.

A user's vote on a completion follows

    P(up | u, x, y) = sigma(b_u + q(x, y))

with b_u the user's own readiness to approve. Left in, a grumpy or a generous user would move the reward
of whatever they happened to see. Here q is a random effect, q ~ N(0, quality_sd^2), b_u ~ N(b, offset_sd^2)
with the pool's b free, and all are found at once as the penalised maximum of the likelihood (concave,
analytic gradient, L-BFGS). Then each vote becomes a hard label whose weight takes the offset out exactly:

    weight(up) = exp(-(b_u - b) / 2),   weight(down) = exp(+(b_u - b) / 2)

for the weighted odds of approval are e^(b_u + q) e^-(b_u - b) = e^(b + q) whatever q is, as in the correction
for choice-based sampling (Manski and Lerman 1977; King and Zeng 2001). So who approves of everything says
little by approving, and much by not.

A user's weights are scaled to min(votes, user_cap), and no vote counts more than ``VOTE_CAP``. What nobody
voted on is no judgement: silence makes no anchor.

Shapes: V votes, U users, I completions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy import optimize

from accord.config import Config
from accord.errors import DataError, NumericsError
from accord.judgements import Anchor, Thumb
from accord.stats.intervals import Interval, clustered_mean
from accord.types import Completion, Prompt

Array = NDArray[np.float64]
Index = NDArray[np.int64]

VOTE_CAP = 2.0
"""Most that one vote counts: else one vote hidden among many of the other kind could be made heavy."""
SOURCE = "thumbs"
"""``Anchor.source`` of every anchor made here, to be weighted as one source beside rankings."""


class ThumbsConfig(Config):
    """How thumbs are turned into anchors."""

    user_cap: float = Field(20.0, gt=0)
    """Most that one user's votes count together, in votes."""
    offset_sd: float = Field(1.0, gt=0)
    """Prior standard deviation of users' readiness to approve, in log-odds; small: all are alike."""
    quality_sd: float = Field(1.5, gt=0)
    """Prior standard deviation of completions' quality, in log-odds."""


@dataclass(frozen=True, slots=True)
class UserRow:
    """What is known of one user."""

    user: str
    votes: int
    up_share: float
    offset: float
    """b_u - b, in log-odds: above 0 they approve more readily than the typical user."""
    weight: float
    """What their votes count together."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Anchors with the figures behind them."""

    anchors: list[Anchor]
    votes: int
    """Votes as they came."""
    changed: int
    """Votes that a later one of the same user on the same completion took back."""
    repeated: int
    """Votes that said again what already counted."""
    up_share: float
    """Share of thumbs up among the votes that count."""
    typical_up: float
    """sigma(b): how often the typical user approves of an ordinary completion."""
    users: tuple[UserRow, ...]
    """By weight, the heaviest first."""
    warnings: tuple[str, ...]


def anchors(
    thumbs: Sequence[Thumb],
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    config: ThumbsConfig | None = None,
) -> Anchors:
    """One anchor for each user's latest vote on a completion; ``thumbs`` stand in the order they came.

    ``prompts`` by id, ``completions`` by their prompt's id.

    Raises:
        DataError: no votes, one on a prompt or completion that is not there, an id of two votes, or a vote
            that supersedes what is not its user's own earlier vote on the same completion.
        NumericsError: the offsets' fit did not converge.
    """
    config = config or ThumbsConfig()
    if not thumbs:
        raise DataError("there are no thumbs; collect some, or train on rankings alone")
    known = {(p, c.id): c for p, group in completions.items() for c in group}
    for thumb in thumbs:
        if thumb.prompt_id not in prompts or (thumb.prompt_id, thumb.completion_id) not in known:
            raise DataError(
                f"a thumb of {thumb.labeler!r} is on completion {thumb.completion_id!r} of prompt "
                f"{thumb.prompt_id!r}, which is not among those passed; pass every prompt voted on with its "
                "completions"
            )
    counted, changed, repeated = latest(thumbs)
    users = sorted({thumb.labeler for thumb in counted})
    items = {key: i for i, key in enumerate(dict.fromkeys((t.prompt_id, t.completion_id) for t in counted))}
    place = {name: u for u, name in enumerate(users)}
    user_V = np.array([place[t.labeler] for t in counted], np.int64)
    item_V = np.array([items[t.prompt_id, t.completion_id] for t in counted], np.int64)
    up_V = np.array([t.up for t in counted], np.float64)
    base, offset_U = offsets(user_V, item_V, up_V, config)
    weight_V = vote_weights(user_V, up_V, offset_U, config.user_cap)
    made = [
        Anchor(
            prompts[t.prompt_id],
            known[t.prompt_id, t.completion_id],
            float(t.up),
            float(w),
            SOURCE,
            t.labeler,
        )
        for t, w in zip(counted, weight_V, strict=True)
    ]
    rows = _rows(users, user_V, up_V, offset_U, weight_V)
    up_share = float(up_V.mean())
    typical = float(1 / (1 + np.exp(-base)))
    return Anchors(made, len(thumbs), changed, repeated, up_share, typical, rows, _warnings(rows, up_share))


# -- which votes count -------------------------------------------------------------------------


def latest(thumbs: Sequence[Thumb]) -> tuple[list[Thumb], int, int]:
    """Each user's latest vote on each completion; how many were changed, and how many said it again.

    A vote that another supersedes is out wherever it stands; of the rest the last one counts.
    """
    by_id: dict[str, Thumb] = {}
    once: list[Thumb] = []
    for thumb in thumbs:
        if thumb.id and by_id.setdefault(thumb.id, thumb) is not thumb:
            if by_id[thumb.id] != thumb:
                raise DataError(
                    f"two different thumbs have the id {thumb.id!r}; give each vote an id of its own"
                )
            continue  # sent twice
        once.append(thumb)
    superseded: set[str] = set()
    for thumb in once:
        if thumb.supersedes is None:
            continue
        old = by_id.get(thumb.supersedes)
        if old is not None and _matter(old) != _matter(thumb):
            raise DataError(
                f"the thumb {thumb.id!r} of {thumb.labeler!r} supersedes {thumb.supersedes!r}, which is "
                "another user's or on another completion; a correction is the same user's, on the same matter"
            )
        superseded.add(thumb.supersedes)
    standing: dict[tuple[str, str, str], Thumb] = {}
    for thumb in once:
        if not (thumb.id and thumb.id in superseded):
            standing[_matter(thumb)] = thumb
    lost = {_matter(thumb) for thumb in once} - standing.keys()
    if lost:
        raise DataError(
            f"the votes of {min(lost)[0]!r} on completion {min(lost)[2]!r} supersede each other in a circle; "
            "the latest supersedes the earlier"
        )
    changed = sum(thumb.up != standing[_matter(thumb)].up for thumb in once)
    return list(standing.values()), changed, len(thumbs) - len(standing) - changed


def _matter(thumb: Thumb) -> tuple[str, str, str]:
    return thumb.labeler, thumb.prompt_id, thumb.completion_id


# -- offsets and weights -----------------------------------------------------------------------


def offsets(user_V: Index, item_V: Index, up_V: Array, config: ThumbsConfig) -> tuple[float, Array]:
    """The pool's b and each user's b_u - b (U), in log-odds, at the penalised maximum.

    Maximises sum_v log sigma(s_v (b + o_u + q_i)) - sum o_u^2 / 2 offset_sd^2 - sum q_i^2 / 2 quality_sd^2
    - b^2 / 2 3^2, s = 1 for up and -1 for down.

    Raises:
        NumericsError: it did not converge.
    """
    n_users, n_items = int(user_V.max()) + 1, int(item_V.max()) + 1
    sign_V = 2 * up_V - 1
    sd_T = np.r_[3.0, np.full(n_users, config.offset_sd), np.full(n_items, config.quality_sd)]

    def loss(theta_T: Array) -> tuple[float, Array]:
        margin_V = sign_V * (theta_T[0] + theta_T[1 + user_V] + theta_T[1 + n_users + item_V])
        pull_V = -sign_V / (1 + np.exp(margin_V))
        gradient_T = theta_T / sd_T**2
        gradient_T[0] += pull_V.sum()
        gradient_T[1 : 1 + n_users] += np.bincount(user_V, pull_V, n_users)
        gradient_T[1 + n_users :] += np.bincount(item_V, pull_V, n_items)
        value = np.logaddexp(0, -margin_V).sum() + (theta_T**2 / sd_T**2).sum() / 2
        return float(value), gradient_T

    options = {"maxiter": 2000, "gtol": 1e-6 * max(1.0, len(up_V) ** 0.5), "ftol": 1e-15}
    found = optimize.minimize(loss, np.zeros_like(sd_T), jac=True, method="L-BFGS-B", options=options)
    if not np.isfinite(found.fun) or np.abs(loss(found.x)[1]).max() > 1e-2:
        raise NumericsError(f"the users' offsets did not converge: {found.message}; check the votes")
    return float(found.x[0]), found.x[1 : 1 + n_users]


def vote_weights(user_V: Index, up_V: Array, offset_U: Array, user_cap: float) -> Array:
    """How much each vote counts (V): the offset taken out, users' sums capped, votes capped."""
    weight_V = np.exp(-(2 * up_V - 1) * offset_U[user_V] / 2)
    votes_U, total_U = np.bincount(user_V), np.bincount(user_V, weight_V)
    scaled_V = weight_V * (np.minimum(votes_U, user_cap) / total_U)[user_V]
    return np.minimum(scaled_V, VOTE_CAP)


def _rows(
    users: Sequence[str], user_V: Index, up_V: Array, offset_U: Array, weight_V: Array
) -> tuple[UserRow, ...]:
    votes_U, ups_U = np.bincount(user_V), np.bincount(user_V, up_V)
    weight_U = np.bincount(user_V, weight_V)
    columns = zip(users, votes_U, ups_U / votes_U, offset_U, weight_U, strict=True)
    rows = [UserRow(name, int(n), float(up), float(o), float(w)) for name, n, up, o, w in columns]
    return tuple(sorted(rows, key=lambda row: (-row.weight, row.user)))


def _warnings(rows: Sequence[UserRow], up_share: float) -> tuple[str, ...]:
    said = []
    total = sum(row.weight for row in rows)
    if rows[0].weight > 0.25 * total:
        share = f"{rows[0].weight / total:.0%}"
        said.append(
            f"{rows[0].user or 'votes without a name'!r} is {share} of all weight: the thumbs are more "
            "theirs than the users'; lower user_cap or wait for more users"
        )
    if up_share in (0.0, 1.0):
        said.append(f"every vote is {'up' if up_share else 'down'}: they tell nothing of what is better")
    return tuple(said)


# -- the gate ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether thumbs may be part of the reward, by what they do to held-out rankings."""

    admitted: bool
    difference: Interval
    """Accuracy on held-out rankings with thumbs less without, over prompts."""
    reason: str


def gate(
    with_thumbs: ArrayLike,
    without: ArrayLike,
    prompt_ids: Sequence[str],
    rng: np.random.Generator,
    tolerance: float = 0.02,
) -> Gate:
    """Admit thumbs only where the held-out rankings show that they cost less than ``tolerance`` accuracy.

    ``with_thumbs`` and ``without`` hold, for the same held-out pairs, 1 where that model was right, 0.5 for
    equal rewards, else 0. The lower end of the 95 % interval of the difference decides: without
    evidence there is no admission.
    """
    gain = np.asarray(with_thumbs, np.float64) - np.asarray(without, np.float64)
    difference = clustered_mean(gain, prompt_ids, rng)
    admitted = difference.low > -tolerance
    shown = f"{difference.value:+.1%} ({difference.low:+.1%} to {difference.high:+.1%})"
    reason = f"accuracy on held-out rankings changes by {shown}; a loss of {tolerance:.1%} "
    return Gate(admitted, difference, reason + ("is ruled out" if admitted else "cannot be ruled out"))
