"""What the API takes and gives, as the page /api/docs shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from accord.feedback.labeling.people import Person, Role
from accord.feedback.labeling.queue import Assignment
from accord.feedback.labeling.webhooks import EVENTS, Delivery, Webhook
from accord.types import Completion, Message, Prompt

Id = Annotated[str, StringConstraints(pattern=r"^[\w.:-]{1,100}$")]


class Sent(BaseModel):
    """A body; unknown fields are refused, since a dropped one would be a lost one."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What did not go."""

    error: str
    value: str | None = None
    what_to_do: str


# -- labeling ----------------------------------------------------------------------------------


class Turn(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class Shown(BaseModel):
    """A completion as a labeler sees it."""

    id: str
    text: str


class Entered(BaseModel):
    """The answer that stands, of a task that was taken back."""

    tiers: tuple[tuple[str, ...], ...]
    fails: tuple[str, ...]
    strength: float | None
    note: str


class Task(BaseModel):
    """A labeler's task. Completions stand in the order that is recorded as shown: show them so."""

    id: str
    messages: list[Turn]
    completions: list[Shown]
    criterion: str
    protocol: str
    guidelines: str
    expires_at: float
    """Seconds since 1970; a draft renews it, and a late answer is kept all the same."""
    draft: dict[str, Any] | None
    draft_revision: int
    answer: Entered | None

    @classmethod
    def of(cls, given: Assignment, protocol: str, guidelines: str) -> Task:
        """Without purpose, arm, prompt id and meta: they would tell gold from other tasks."""
        answer = given.answer
        return cls(
            id=given.id,
            messages=[Turn(role=m.role, content=m.content) for m in given.prompt.messages],
            completions=[Shown(id=each.id, text=each.text) for each in given.completions],
            criterion=given.criterion,
            protocol=protocol,
            guidelines=guidelines,
            expires_at=given.expires_at,
            draft=given.draft,
            draft_revision=given.draft_revision,
            answer=None
            if answer is None
            else Entered(tiers=answer.tiers, fails=answer.fails, strength=answer.strength, note=answer.note),
        )


class Draft(Sent):
    """What is entered so far."""

    revision: int = Field(ge=0, lt=2**31)
    """Rises with each change; the newest is kept."""
    draft: dict[str, Any]


class Keys(Sent):
    """Keys of submissions."""

    keys: list[str] = Field(max_length=500)


class Guidelines(BaseModel):
    """The guidelines as they stand."""

    version: str
    text: str
    acknowledged: bool


class Acknowledged(Sent):
    """The version that was read."""

    version: str = Field(max_length=100)


class Me(BaseModel):
    """Whom the token acts for."""

    name: str
    role: Role


# -- the owner's -------------------------------------------------------------------------------


class NewTurn(Sent):
    """One turn of a conversation; the last is the one to answer."""

    role: Literal["system", "user", "assistant"]
    content: str


class NewPrompt(Sent):
    """A prompt, with answers to it if there are some already."""

    messages: list[NewTurn] = Field(min_length=1, max_length=1000)
    completions: list[str] = Field(default_factory=list, max_length=100)
    meta: dict[str, Any] = Field(default_factory=dict)
    id: Id | None = None
    """The digest of the messages unless given."""

    def group(self) -> tuple[Prompt, list[Completion]]:
        messages = tuple(Message(turn.role, turn.content) for turn in self.messages)
        return Prompt(messages, self.meta, self.id or ""), [Completion(text) for text in self.completions]


class NewPrompts(Sent):
    """Prompts to be labelled; all are stored, or none."""

    prompts: list[NewPrompt] = Field(min_length=1, max_length=1000)
    split: Id | None = None


class Added(BaseModel):
    """Ids in the order sent, and how many tasks there are now that were not before."""

    prompts: list[str]
    tasks: int


class NewInvitation(Sent):
    """Who may join by a link, how many, and until when."""

    role: Role = Role.LABELER
    days: float = Field(7, gt=0, le=365)
    uses: int = Field(1, ge=1, le=1000)


class Link(BaseModel):
    """A link to hand on; it cannot be had again."""

    link: str


class NewPerson(Sent):
    """Somebody who signs in by a link or acts through a token."""

    name: str = Field(min_length=1, max_length=60)
    role: Role = Role.LABELER


class Joined(BaseModel):
    """The new person, and the link by which they sign in."""

    person: Person
    link: str


class NewStatus(Sent):
    """active or paused; for a pause, whether to ask others about the prompts the person labelled."""

    status: Literal["active", "paused"]
    again: bool = False


class NewToken(Sent):
    """How long it is good; until revoked unless given."""

    days: float | None = Field(None, gt=0, le=3650)


class Token(BaseModel):
    """A token; it cannot be had again."""

    token: str


class Revoked(BaseModel):
    """How many tokens there were."""

    revoked: int


class NewWebhook(Sent):
    """An address to be told of events (all of them where none is named)."""

    url: str = Field(max_length=2000)
    events: list[Literal["label.created", "label.superseded", "prompt.complete", "queue.complete"]] = Field(
        default_factory=list, max_length=len(EVENTS)
    )


class MadeWebhook(BaseModel):
    """The webhook, and the secret by which the receiver checks signatures."""

    webhook: Webhook
    secret: str


class Active(Sent):
    """Whether the webhook is told of anything."""

    active: bool


class Deliveries(BaseModel):
    """The latest deliveries, newest first."""

    deliveries: list[Delivery]
