import random
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.tiny import write_tiny
from accord.types import Completion, Prompt

transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Callable[..., Path]:
    """Folders of tiny models, each written once a session; without ``labels`` there is no head."""
    written: dict[tuple, Path] = {}

    def get(kind: str = "llama", **options) -> Path:
        key = (kind, *sorted((name, str(value)) for name, value in options.items()))
        if key not in written:
            written[key] = write_tiny(tmp_path_factory.mktemp(kind), kind, **options)
        return written[key]

    return get


@pytest.fixture
def base(folder) -> Callable[..., SequenceClassifier]:
    """A tiny trunk with a fresh head of one label."""
    return lambda kind="llama", **options: SequenceClassifier.load(folder(kind), labels=1, **options)


def reply(rng: random.Random, good: bool) -> Completion:
    words = [rng.choice(["ba", "dab", "ada", "badda"]) for _ in range(rng.randint(2, 5))]
    if good:
        words.insert(rng.randint(0, len(words)), "zap")
    return Completion(" ".join(words))


@pytest.fixture(scope="session")
def planted() -> Callable[..., list[Comparison]]:
    """Comparisons that replies with "zap" win, every such pair of a prompt's one to four replies each."""

    def get(prompts: int = 120, p_chosen: float = 1.0, most: int = 2, seed: int = 0) -> list[Comparison]:
        rng = random.Random(seed)
        out = []
        for i in range(prompts):
            prompt = Prompt.from_text(f"say {i}")
            good = [reply(rng, True) for _ in range(rng.randint(1, most))]
            bad = [reply(rng, False) for _ in range(rng.randint(1, most))]
            out += [Comparison(prompt, a, b, p_chosen) for a in good for b in bad]
        return out

    return get
