"""What a step's completions and scores say of reward hacking: pure functions, a float each.

A reward that is hacked shows in the text before anybody reads it: answers become empty, endless, alike, full
of one phrase or of the prompt's own words, or the reward follows their length alone (Skalse et al. 2022,
arXiv:2209.13085, define hacking; Singhal et al. 2023, arXiv:2310.03716, show how far length alone goes). None
of it proves a hack, for honest learning moves these figures too; :mod:`accord.align.guard` judges them.

Words are those of :mod:`accord.stats.words`; repetition is counted in tokens, which see punctuation too. In
an episode of several turns all of it is of the policy's own words: what an environment said is not its doing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
from scipy import stats

from accord.errors import DataError
from accord.stats.words import ngrams, words
from accord.types import Rollout, Score

REPEATED = 3
"""Tokens of a run that may come again in one text."""
PHRASE = 3
"""Words of a phrase that may spread over many texts."""
COPIED = 3
"""Words of a run that may stand in the prompt."""
LOW = 0.05
"""Share of the first steps' completions below the floor that is drawn from them."""

Decode = Callable[[Sequence[int]], str]


def signals(
    rollouts: Sequence[Rollout],
    scores: Sequence[Score],
    metrics: Mapping[str, float] | None = None,
    decode: Decode | None = None,
) -> dict[str, float]:
    """Every signal of a step's rollouts and of their scores, in the rollouts' order.

    ``metrics`` are the step's own; with ``kl_sampled`` among them the reference's surprise is added. A signal
    that is undefined (a correlation of constants) is left out. ``decode`` turns sampled ids into text
    (``Engine.decode``); episodes need it, for their texts hold the environment's words too.

    Raises:
        DataError: no rollouts, not one score for each, or episodes without ``decode``.
    """
    if not rollouts or len(rollouts) != len(scores):
        raise DataError(
            f"{len(scores)} scores for {len(rollouts)} rollouts; pass one for each, and at least one"
        )
    texts = own_texts(rollouts, decode)
    spoken = [words(text) for text in texts]
    found = {
        "rollouts": float(len(rollouts)),
        "empty": _mean(not said for said in spoken),
        "repeated": _mean(repeated(_own(rollout)) for rollout in rollouts),
        "copied": _mean(
            copied(words(rollout.prompt.text), said) for rollout, said in zip(rollouts, spoken, strict=True)
        ),
        "marks": _mean(marks(text) for text in texts),
        "alike": alike([rollout.prompt.id for rollout in rollouts], texts),
        "distinct": distinct(spoken),
        "phrase": common(spoken),
    }
    rewards = [score.value for score in scores]
    found |= _defined("pays_length", correlation([sum(rollout.mask) for rollout in rollouts], rewards))
    found |= parts(scores)
    if metrics is not None and "kl_sampled" in metrics:
        found["reference_surprise"] = surprise(rollouts, metrics["kl_sampled"])
    return found


def own_texts(rollouts: Sequence[Rollout], decode: Decode | None = None) -> list[str]:
    """What the policy itself said in each rollout: its turns, one a line, where there are several.

    Without ``decode`` the rollouts' texts, which are its own where nobody answers back.

    Raises:
        DataError: a rollout holds another's words and there is no ``decode`` to tell them apart.
    """
    if decode is not None:
        return ["\n".join(decode(turn) for turn in _turns(rollout)) for rollout in rollouts]
    if not all(all(rollout.mask) for rollout in rollouts):
        raise DataError(
            "rollouts hold an environment's words (mask 0), which are not the policy's doing; pass the "
            "engine's decode, so that its own are told apart"
        )
    return [rollout.text for rollout in rollouts]


def shown(rollouts: Sequence[Rollout], decode: Decode | None = None) -> dict[str, str]:
    """What the signals of the same name were of, in words: the most common phrase, answer and mark."""
    texts = own_texts(rollouts, decode)
    answers = Counter(text.strip() for text in texts)
    signs = Counter(c for text in texts for c in text if _is_mark(c))
    found = {"phrase": _spread([words(text) for text in texts]), "alike": answers, "marks": signs}
    return {key: str(counted.most_common(1)[0][0]) for key, counted in found.items() if counted}


def watched(
    name: str, scores: Sequence[Score], judged: Sequence[Score], floor: float | None = None
) -> dict[str, float]:
    """What a scorer that is watched and never optimised says of a step, beside the reward's ``scores``.

    ``NAME`` is its mean, ``NAME error`` the mean's standard error (the rollouts counted as independent),
    ``NAME agrees`` its rank correlation with the reward over the step's rollouts, ``NAME low`` the score that
    a twentieth of them do not reach, and ``NAME fails`` the share that fails: probably not acceptable, where
    its scores say so (``p_acceptable``), and else below ``floor``, if there is one.
    """
    values = [score.value for score in judged]
    found = {
        name: _mean(values),
        f"{name} error": float(np.std(values) / np.sqrt(len(values))),
        f"{name} low": float(np.quantile(values, LOW)),
    }
    likely = [score.parts["p_acceptable"] for score in judged if "p_acceptable" in score.parts]
    if len(likely) == len(judged):
        found[f"{name} fails"] = _mean(p < 0.5 for p in likely)
    elif floor is not None:
        found[f"{name} fails"] = _mean(value < floor for value in values)
    agrees = correlation([score.value for score in scores], values)
    return found | _defined(f"{name} agrees", agrees)


def repeated(ids: Sequence[Hashable], n: int = REPEATED) -> float:
    """The share of a text's runs of ``n`` tokens that occurred earlier in it (seq-rep-n, arXiv:1908.04319).

    In [0, 1); 0 where it has fewer than ``n`` tokens.
    """
    runs = ngrams(ids, n)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def copied(prompt: Sequence[str], said: Sequence[str], n: int = COPIED) -> float:
    """The share of an answer's runs of ``n`` words that stand in its prompt; 0 where it has fewer."""
    runs = ngrams(said, n)
    known = set(ngrams(prompt, n))
    return sum(run in known for run in runs) / len(runs) if runs else 0.0


def marks(text: str) -> float:
    """The share of a text's characters that are no letter, digit or space; 0 for an empty one."""
    return sum(map(_is_mark, text)) / len(text) if text else 0.0


def alike(prompts: Sequence[str], texts: Sequence[str]) -> float:
    """The share of completions that some other prompt got too, letter for letter."""
    asked: dict[str, set[str]] = defaultdict(set)
    for prompt, text in zip(prompts, texts, strict=True):
        asked[text.strip()].add(prompt)
    return _mean(len(asked[text.strip()]) > 1 for text in texts)


def distinct(spoken: Sequence[Sequence[str]], n: int = PHRASE) -> float:
    """Different n-grams over all of the step's texts (distinct-n, arXiv:1510.03055); 0 where none is."""
    grams = [gram for said in spoken for gram in ngrams(said, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def common(spoken: Sequence[Sequence[str]], n: int = PHRASE) -> float:
    """The share of texts that hold the most common n-gram; a text of fewer words is a phrase of its own."""
    return max(_spread(spoken, n).values(), default=0) / len(spoken)


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties sharing their rank; ``None`` where one side does not vary."""
    rank_x, rank_y = stats.rankdata(x), stats.rankdata(y)
    if np.ptp(rank_x) == 0 or np.ptp(rank_y) == 0:
        return None
    return float(np.corrcoef(rank_x, rank_y)[0, 1])


def parts(scores: Sequence[Score]) -> dict[str, float]:
    """Means of the reward's parts, ``part NAME``; a part that some score lacks is left out."""
    names = [name for name in scores[0].parts if all(name in score.parts for score in scores)]
    return {f"part {name}": _mean(score.parts[name] for score in scores) for name in names}


def surprise(rollouts: Sequence[Rollout], kl_sampled: float) -> float:
    """Nats a token that the reference is surprised by the samples; its exponential is their perplexity.

    log q(y) = log p(y) - (log p(y) - log q(y)): the samples' own log-probs less the step's sampled KL, which
    is a mean over completions.
    """
    own = _mean(sum(rollout.logprobs) for rollout in rollouts)
    return (kl_sampled - own) / max(_mean(sum(rollout.mask) for rollout in rollouts), 1e-9)


def _spread(spoken: Sequence[Sequence[str]], n: int = PHRASE) -> Counter[str]:
    """In how many texts each n-gram stands."""
    grams = [dict.fromkeys(ngrams(said, n)) or {tuple(said): None} for said in spoken]
    return Counter(" ".join(map(str, gram)) for held in grams for gram in held if gram)


def _is_mark(character: str) -> bool:
    return not (character.isalnum() or character.isspace())


def _turns(rollout: Rollout) -> list[list[int]]:
    """The runs of tokens that the policy chose, unbroken by others'."""
    told = groupby(zip(rollout.ids, rollout.mask, strict=True), key=lambda pair: bool(pair[1]))
    return [[token for token, _ in run] for own, run in told if own]


def _own(rollout: Rollout) -> list[int]:
    """The tokens the policy chose: an environment's words are not its doing."""
    return [token for token, own in zip(rollout.ids, rollout.mask, strict=True) if own]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([float(value) for value in values]))


def _defined(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}
