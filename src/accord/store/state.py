"""The labelling app's working state: who labels, what is open, who holds what. Rows here change.

    people ── secrets          prompts ── queue ── assignments ── submissions
                                  └────── gold           └──────> feedback (the facts)
    webhooks ── deliveries     refusals

Nothing here is a fact: no seals, no triggers, not in the event log. What people said stands in
``feedback``, written in the same transaction as the state that leads there. Ids are uuid4 in hex,
times are seconds since 1970 in UTC.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from accord.store.tables import Json, metadata


def _text(name: str, *rest: ForeignKey, null: bool = False, unique: bool = False) -> Column[str]:
    return Column(name, Text, *rest, nullable=null, unique=unique)


def _id(name: str = "id", *rest: ForeignKey) -> Column[str]:
    return Column(name, Text, *rest, primary_key=True)


def _time(name: str, null: bool = False) -> Column[float]:
    return Column(name, Double, nullable=null)


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _json(name: str, null: bool = False) -> Column[object]:
    return Column(name, Json, nullable=null)


people = Table(
    "people",
    metadata,
    _id(),
    _text("name", unique=True),
    _text("role"),  # owner | reviewer | labeler
    _text("status"),  # active | paused
    _text("password", null=True),
    _text("acknowledged", null=True),  # version of the guidelines
    _time("acknowledged_at", null=True),
    _text("quiz"),  # "" (none asked) | open | passed | failed
    _time("created_at"),
    _text("invited_by", null=True),
)
secrets = Table(
    "secrets",
    metadata,
    _id("hash"),  # SHA-256; the secret itself is kept nowhere
    _text("kind"),  # session | invite (person_id: who invited) | link (signs in person_id) | token
    _text("person_id", ForeignKey("people.id"), null=True),
    _text("role", null=True),
    _text("csrf", null=True),
    _time("created_at"),
    _time("expires_at", null=True),
    _time("used_at", null=True),
    Column("uses", Integer, nullable=True),  # how many people an invitation still lets in
    Index(None, "person_id"),
)
queue = Table(
    "queue",
    metadata,
    _id(),
    _text("prompt_id", ForeignKey("prompts.id")),
    _text("criterion"),
    _json("completions"),
    _count("wanted"),  # labelers asked for so far; adaptive overlap raises it
    _count("taken"),  # live leases and submissions
    _count("done"),  # submissions
    Column("priority", Double, nullable=False),
    _text("arm"),
    Column("reserved", Boolean, nullable=False),  # the random arm's own: active choice leaves it alone
    UniqueConstraint("prompt_id", "criterion"),
)
Index(
    "ix_queue_open",
    queue.c.criterion,
    queue.c.reserved,
    queue.c.priority.desc(),
    queue.c.id,
    sqlite_where=queue.c.taken < queue.c.wanted,
    postgresql_where=queue.c.taken < queue.c.wanted,
)
Index(
    "ix_queue_unfinished",
    queue.c.criterion,
    sqlite_where=queue.c.done < queue.c.wanted,
    postgresql_where=queue.c.done < queue.c.wanted,
)
assignments = Table(
    "assignments",
    metadata,
    _id(),
    _text("queue_id", ForeignKey("queue.id"), null=True),
    _text("prompt_id", ForeignKey("prompts.id")),
    _text("labeler"),
    _count("number"),  # the labeler's first claim is 1
    _text("purpose"),  # label | repeat | gold | quiz
    _text("arm"),
    _text("criterion"),
    _json("shown"),
    _text("state"),  # leased | submitted | skipped | expired
    _time("leased_at"),
    _time("expires_at"),
    _json("draft", null=True),
    _count("draft_revision"),
    _text("feedback_id", ForeignKey("feedback.id"), null=True),
    _time("submitted_at", null=True),
    UniqueConstraint("labeler", "number"),
    Index("ix_assignments_labeler_state_submitted_at", "labeler", "state", "submitted_at"),
    Index("ix_assignments_labeler_purpose_number", "labeler", "purpose", "number"),
    Index("ix_assignments_labeler_prompt_id", "labeler", "prompt_id"),
)
Index(
    "uq_assignments_label",
    assignments.c.queue_id,
    assignments.c.labeler,
    unique=True,
    sqlite_where=assignments.c.purpose == "label",
    postgresql_where=assignments.c.purpose == "label",
)
Index(
    "ix_assignments_leased",
    assignments.c.expires_at,
    sqlite_where=assignments.c.state == "leased",
    postgresql_where=assignments.c.state == "leased",
)
gold = Table(
    "gold",
    metadata,
    _id("prompt_id", ForeignKey("prompts.id")),
    _text("criterion"),
    _json("tiers"),
    _json("fails"),
    Column("quiz", Boolean, nullable=False),
)
submissions = Table(
    "submissions",
    metadata,
    _id("key"),
    _text("assignment_id", ForeignKey("assignments.id")),
    _text("labeler"),
    _text("kind"),  # the protocol, or skip, or flag
    _text("content"),  # digest of what was sent: the key with another content is refused
    _json("feedback_ids"),
    _time("at"),
    Index(None, "assignment_id"),
    Index(None, "at"),
)
refusals = Table(
    "refusals",
    metadata,
    _id(),
    _time("at"),
    _text("labeler"),
    _json("reason"),
    _json("body"),
    Index(None, "at"),
)
webhooks = Table(
    "webhooks",
    metadata,
    _id(),
    _text("url"),
    _text("secret"),
    _json("events"),
    Column("active", Boolean, nullable=False),
    _time("created_at"),
)
deliveries = Table(
    "deliveries",
    metadata,
    _id(),
    _text("webhook_id", ForeignKey("webhooks.id")),
    _text("event"),
    _json("payload"),
    _count("attempts"),
    _time("next_at"),
    _text("state"),  # waiting | sent | failed
    _json("error", null=True),
    _time("created_at"),
    Index("ix_deliveries_state_next_at", "state", "next_at"),
)

STATE = (people, secrets, queue, assignments, gold, submissions, refusals, webhooks, deliveries)
"""The mutable tables, in the order in which rows may refer to one another."""
