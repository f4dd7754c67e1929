"""Whether a suite's prompts stand in the training text: whole, or by a run of words.

Of prompts made by a suite's template the row's own text is looked for (``prompt.meta[OWN]``), without the
template's words, which stand in nobody's training text. Words are those of ``stats.words``. A prompt is
*found whole* where all its words stand in one training text in order and together, and *touched* where a run
of ``n`` words does (13 is what GPT-3's authors used, Brown et al. 2020, arXiv:2005.14165; prompts of fewer
words are looked for whole). It finds copies, not paraphrases and not translations, and it can only look at
text it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from accord.errors import ConfigError
from accord.stats.words import words
from accord.types import Prompt

OWN = "own text"
"""Where a prompt's meta keeps what of it came from its row, if its template adds words."""
RUN = 13
"""Words in a run."""
SHORT = 4
"""Prompts of fewer words are in everybody's training text, and are not looked for."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which prompts were found."""

    prompts: int
    """Looked for."""
    too_short: int
    """Not looked for."""
    texts: int
    """Training texts looked through."""
    n: int
    """Words in a run."""
    whole: tuple[str, ...]
    """Ids of prompts found whole."""
    touched: tuple[str, ...]
    """Ids of those of which a run was found, the whole ones included."""
    given: bool = True
    """Whether training text was given; else only the prompts aligned on here were looked through."""


def overlap(prompts: Sequence[Prompt], texts: Iterable[str], n: int = RUN) -> Overlap:
    """Look for prompts in training texts; ``texts`` is read once and not kept.

    Takes memory by the prompts' runs, time by the texts' words. :class:`ConfigError` where n is below 4.
    """
    if n < SHORT:
        raise ConfigError(f"runs of {n} words are everywhere; take n = {SHORT} or more")
    said = {prompt.id: words(str(prompt.meta.get(OWN, prompt.text))) for prompt in prompts}
    looked = {id: found for id, found in said.items() if len(found) >= SHORT}
    runs: dict[tuple[str, ...], set[str]] = {}
    sizes = set()
    for id, found in looked.items():
        size = min(n, len(found))
        sizes.add(size)
        for at in range(len(found) - size + 1):
            runs.setdefault(tuple(found[at : at + size]), set()).add(id)
    whole: set[str] = set()
    touched: set[str] = set()
    count = 0
    for text in texts:
        count += 1
        read = words(text)
        here: set[str] = set()
        for size in sizes:
            for at in range(len(read) - size + 1):
                here |= runs.get(tuple(read[at : at + size]), set())
        touched |= here
        if here - whole:
            joined = f" {' '.join(read)} "
            whole |= {id for id in here - whole if f" {' '.join(looked[id])} " in joined}
    order = list(looked)
    return Overlap(
        len(looked), len(said) - len(looked), count, n,
        tuple(i for i in order if i in whole), tuple(i for i in order if i in touched),
    )  # fmt: skip
