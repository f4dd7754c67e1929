"""What can be measured on the text alone: length, repetition, diversity, overlap with a reference.

Words are those of ``stats.words``. No I/O, no randomness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from accord.errors import DataError
from accord.stats.words import ngrams, repetition, words
from accord.types import Completion, Prompt, Score, Stop


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct-n of a set of texts: different n-grams over all n-grams, pooled (Li et al. 2016).

    In (0, 1]; ``None`` where no text has ``n`` words. It falls as texts grow longer, whatever the
    model does, so read it beside the length.
    """
    pooled = [gram for text in texts for gram in ngrams(words(text), n)]
    return len(set(pooled)) / len(pooled) if pooled else None


@dataclass(frozen=True, slots=True)
class Rouge:
    """Precision, recall and their harmonic mean, each in [0, 1] (Lin 2004, beta = 1)."""

    precision: float
    recall: float
    f: float


def _rouge(shared: int, candidate: int, reference: int) -> Rouge:
    if shared == 0:
        return Rouge(0.0, 0.0, 0.0)
    precision, recall = shared / candidate, shared / reference
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall))


def rouge_n(candidate: str, reference: str, n: int) -> Rouge:
    """ROUGE-N: n-grams shared with the reference, counted with multiplicity; zeros where either has none."""
    grams_c, grams_r = (Counter(ngrams(words(text), n)) for text in (candidate, reference))
    return _rouge((grams_c & grams_r).total(), grams_c.total(), grams_r.total())


def rouge_l(candidate: str, reference: str) -> Rouge:
    """ROUGE-L over the whole text: the longest common subsequence of words, not split by sentence."""
    words_c, words_r = words(candidate), words(reference)
    return _rouge(longest_common_subsequence(words_c, words_r), len(words_c), len(words_r))


def longest_common_subsequence(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, a whole row of the table as one integer.

    Bit i of ``row`` is 0 once the subsequence has gained at ``left[i]`` (Hyyro 2004, "Bit-parallel
    LCS-length computation revisited"); Python's integers are as wide as the text.
    """
    at: dict[Hashable, int] = {}
    for i, item in enumerate(left):
        at[item] = at.get(item, 0) | 1 << i
    full = (1 << len(left)) - 1
    row = full
    for item in right:
        matched = row & at.get(item, 0)
        row = (row + matched | row - matched) & full
    return len(left) - row.bit_count()


def self_overlap(texts: Sequence[str]) -> float | None:
    """Mean ROUGE-L F over the pairs of one prompt's samples: 1 says every sample is the same words.

    ``None`` for fewer than two texts. Two texts without a word count as the same.
    """
    if len(texts) < 2:
        return None
    pairs = list(combinations(texts, 2))
    return sum(_same_or_overlap(a, b) for a, b in pairs) / len(pairs)


def _same_or_overlap(left: str, right: str) -> float:
    return 1.0 if words(left) == words(right) else rouge_l(left, right).f


def per_completion(completion: Completion) -> dict[str, float]:
    """The figures of one completion: ``words``, ``tokens`` (where its ids are known), ``repetition``,
    ``empty`` and ``truncated`` (0 or 1)."""
    figures = {
        "words": float(len(words(completion.text))),
        "repetition": repetition(completion.text),
        "empty": float(not completion.text.strip()),
        "truncated": float(completion.stop is Stop.LENGTH),
    }
    if completion.ids or completion.stop is not Stop.GIVEN:
        figures["tokens"] = float(len(completion.ids))
    return figures


def per_prompt(completions: Sequence[Completion]) -> dict[str, float]:
    """The figures of a prompt's samples together: ``diversity`` (1 - self-overlap), absent for one sample."""
    overlap = self_overlap([c.text for c in completions])
    return {} if overlap is None else {"diversity": 1 - overlap}


def corpus(groups: Sequence[Sequence[Completion]]) -> dict[str, float]:
    """The figures of a whole side: ``distinct_1..3`` over every prompt's first sample.

    One sample a prompt, so that a policy with one answer for everybody shows, and the number of
    samples does not. A figure no text is long enough for is absent.
    """
    first = [group[0].text for group in groups if group]
    figures = {f"distinct_{n}": distinct(first, n) for n in (1, 2, 3)}
    return {name: value for name, value in figures.items() if value is not None}


class RougeScorer:
    """A scorer: ROUGE against the reference text in ``prompt.meta[key]``; value ROUGE-L F, parts all three.

    Raises :class:`DataError` for a prompt without a reference.
    """

    def __init__(self, key: str = "reference") -> None:
        self.key = key

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order; parts ``rouge_1``, ``rouge_2``, ``rouge_l`` (F, in [0, 1])."""
        reference = prompt.meta.get(self.key)
        if not isinstance(reference, str) or not reference.strip():
            raise DataError(
                f"prompt {prompt.id!r} has no text in meta[{self.key!r}] (it is {reference!r}); "
                "ROUGE needs a reference answer for each prompt"
            )
        return [Score(parts["rouge_l"], parts) for parts in (_rouges(c.text, reference) for c in completions)]


def _rouges(candidate: str, reference: str) -> Mapping[str, float]:
    return {
        "rouge_1": rouge_n(candidate, reference, 1).f,
        "rouge_2": rouge_n(candidate, reference, 2).f,
        "rouge_l": rouge_l(candidate, reference).f,
    }
