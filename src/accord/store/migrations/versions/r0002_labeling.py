"""The labelling app's working state: people, queue, assignments, receipts, refusals, webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def text(name: str, to: str = "", null: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text, *([sa.ForeignKey(to)] if to else []), nullable=null)


def time(name: str, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.Double, nullable=null)


def count(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, nullable=False)


def flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean, nullable=False)


TABLES = {
    "people": [
        text("id"),
        text("name"),
        text("role"),
        text("status"),
        text("password", null=True),
        text("acknowledged", null=True),
        time("acknowledged_at", null=True),
        text("quiz"),
        time("created_at"),
        text("invited_by", null=True),
    ],
    "secrets": [
        text("hash"),
        text("kind"),
        text("person_id", "people.id", null=True),
        text("role", null=True),
        text("csrf", null=True),
        time("created_at"),
        time("expires_at", null=True),
        time("used_at", null=True),
        sa.Column("uses", sa.Integer, nullable=True),
    ],
    "queue": [
        text("id"),
        text("prompt_id", "prompts.id"),
        text("criterion"),
        text("completions"),
        count("wanted"),
        count("taken"),
        count("done"),
        sa.Column("priority", sa.Double, nullable=False),
        text("arm"),
        flag("reserved"),
    ],
    "assignments": [
        text("id"),
        text("queue_id", "queue.id", null=True),
        text("prompt_id", "prompts.id"),
        text("labeler"),
        count("number"),
        text("purpose"),
        text("arm"),
        text("criterion"),
        text("shown"),
        text("state"),
        time("leased_at"),
        time("expires_at"),
        text("draft", null=True),
        count("draft_revision"),
        text("feedback_id", "feedback.id", null=True),
        time("submitted_at", null=True),
    ],
    "gold": [text("prompt_id", "prompts.id"), text("criterion"), text("tiers"), text("fails"), flag("quiz")],
    "submissions": [
        text("key"),
        text("assignment_id", "assignments.id"),
        text("labeler"),
        text("kind"),
        text("content"),
        text("feedback_ids"),
        time("at"),
    ],
    "refusals": [text("id"), time("at"), text("labeler"), text("reason"), text("body")],
    "webhooks": [text("id"), text("url"), text("secret"), text("events"), flag("active"), time("created_at")],
    "deliveries": [
        text("id"),
        text("webhook_id", "webhooks.id"),
        text("event"),
        text("payload"),
        count("attempts"),
        time("next_at"),
        text("state"),
        text("error", null=True),
        time("created_at"),
    ],
}
UNIQUE = {"people": ["name"], "queue": ["prompt_id", "criterion"], "assignments": ["labeler", "number"]}
INDEXES = [
    ("secrets", ["person_id"]),
    ("assignments", ["labeler", "state", "submitted_at"]),
    ("assignments", ["labeler", "purpose", "number"]),
    ("assignments", ["labeler", "prompt_id"]),
    ("submissions", ["assignment_id"]),
    ("submissions", ["at"]),
    ("refusals", ["at"]),
    ("deliveries", ["state", "next_at"]),
]
PARTIAL = [
    ("ix_queue_open", "queue", ["criterion", "reserved", "priority DESC", "id"], "taken < wanted", False),
    ("ix_queue_unfinished", "queue", ["criterion"], "done < wanted", False),
    ("uq_assignments_label", "assignments", ["queue_id", "labeler"], "purpose = 'label'", True),
    ("ix_assignments_leased", "assignments", ["expires_at"], "state = 'leased'", False),
]


def upgrade() -> None:
    for name, columns in TABLES.items():
        for column in columns:
            for reference in column.foreign_keys:
                reference.name = f"fk_{name}_{column.name}_{reference.target_fullname.split('.')[0]}"
        key = UNIQUE.get(name)
        op.create_table(
            name,
            *columns,
            sa.PrimaryKeyConstraint(columns[0].name, name=f"pk_{name}"),
            *([sa.UniqueConstraint(*key, name="_".join(["uq", name, *key]))] if key else []),
        )
    for table, by in INDEXES:
        op.create_index("_".join(["ix", table, *by]), table, by)
    for index, table, by, where, unique in PARTIAL:
        op.create_index(
            index,
            table,
            [sa.text(column) for column in by],
            unique=unique,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
