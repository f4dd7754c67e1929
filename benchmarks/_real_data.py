"""Real public data for real_feedback.py, read where it lies and never copied into the repository."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

LIMIT = 4000
"""Passages of each source of plain text; task dialogues would drown the rest."""


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of ``NAME.jsonl.gz`` below ``folder``."""
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def plain_texts(folder: Path) -> list[str]:
    """Plain English to train a small decoder on: stories, fables, novels and dialogues, shuffled."""
    texts = [row["text"] for name in ("tinystories_sample", "aesop_fables", "childrens_novels")
             for row in rows(folder, f"simple-english/{name}")]  # fmt: skip
    names = {"user": "Human", "system": "Assistant"}
    chats = [
        "".join(f"\n\n{names[turn['speaker']]}: {turn['text']}" for turn in row["turns"])
        for row in rows(folder, "simple-english/task_dialogues_train")
    ]
    talks = [row["dialogue"] for row in rows(folder, "dialogsum/train")]
    rng = random.Random(904)
    texts += rng.sample(chats, min(LIMIT, len(chats))) + rng.sample(talks, min(LIMIT, len(talks)))
    rng.shuffle(texts)
    return texts
