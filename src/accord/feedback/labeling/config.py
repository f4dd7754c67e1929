"""Settings of the labelling app: what is asked of whom, and how often."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from accord.config import Config

Protocol = Literal["rank", "pair", "thumb", "edit"]


class LabelConfig(Config):
    """What labelers are asked, how many of them, and where the app listens."""

    criterion: str = Field("helpful, honest and harmless", min_length=1)
    """By what completions are judged; shown above each task and kept with each judgement."""
    protocol: Protocol = "rank"
    """rank (order them, ties and FAIL allowed), pair (choose one of two), thumb (yes or no to each), edit
    (write a better one)."""
    completions: int = Field(4, ge=2, le=9)
    """Completions shown of a prompt, at most; a pair shows two."""
    overlap: int = Field(3, ge=1)
    """Labelers a prompt, at most."""
    adaptive: bool = True
    """Ask more than ``first_overlap`` labelers only while their consensus is uncertain."""
    first_overlap: int = Field(2, ge=1)
    """Labelers a prompt before adaptive overlap asks whether another is needed."""
    certain: float = Field(0.8, gt=0.5, lt=1)
    """A prompt is settled when every pair of its completions that are not both FAIL has a consensus of at
    least this, either way."""
    repeat_share: float = Field(0.04, ge=0, le=0.2)
    """Share of a labeler's tasks that they ranked before, to see whether they agree with themselves."""
    gold_share: float = Field(0.04, ge=0, le=0.2)
    """Share of a labeler's tasks whose answer is known, as long as there are such items."""
    quiz: int = Field(0, ge=0, le=50)
    """Items of known answer that a new labeler meets first, looking like any other; 0 for none."""
    quiz_pass: float = Field(0.7, gt=0, le=1)
    """Share of the quiz's ordered pairs to get right; who fails gets no more tasks."""
    random_share: float = Field(0.15, ge=0, le=1)
    """Share of tasks that active choice leaves to chance; they alone give an unbiased test set."""
    partial: bool = False
    """Whether a labeler may leave completions unranked."""
    tie_share: float = Field(0.34, ge=0, le=1)
    """Share of tied pairs in a ranking above which the screen asks whether they are equals indeed."""
    lease_minutes: float = Field(30.0, gt=0)
    """Minutes until a task that was handed out and not answered goes to somebody else."""
    split: str | None = None
    """Only prompts of this split; all prompts unless given."""
    host: str = "127.0.0.1"
    """Address the app listens on; 0.0.0.0 for every network this computer is in."""
    port: int = Field(8080, ge=0, le=65535)
    """Port the app listens on."""
    url: str = Field("", pattern=r"^(https?://[^\s/]\S*)?$")
    """Address people reach the app by, such as https://labels.example.org behind a proxy; unless given, the
    one it listens on."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.quiz and self.protocol not in ("rank", "pair"):
            raise ValueError(f"a quiz needs ranked answers; protocol {self.protocol!r} gives none")
        return self

    @property
    def first_wanted(self) -> int:
        """Labelers asked for when a task is made."""
        return min(self.first_overlap, self.overlap) if self.adaptive else self.overlap

    @property
    def shown(self) -> int:
        """Completions on one screen, at most."""
        return 2 if self.protocol == "pair" else self.completions

    @property
    def least(self) -> int:
        """Different completions that a prompt needs to be a task."""
        return 2 if self.ranks else 1

    @property
    def ranks(self) -> bool:
        """Whether an answer is an order of given completions, which repeats and gold can be held against."""
        return self.protocol in ("rank", "pair")
