"""The first schema: facts, runs, artefacts, comparisons; all of it append-only."""

import sqlalchemy as sa
from alembic import op

from accord.store.append_only import POSTGRES_FUNCTION, triggers

revision = "0001"
down_revision = None


def text(name: str, *constraints: sa.ForeignKey, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text, *constraints, nullable=null)


def ref(name: str, to: str, null: bool = False) -> sa.Column:
    return text(name, sa.ForeignKey(to), null=null)


TABLES = {
    "guidelines": [text("id"), text("text")],
    "prompts": [text("id"), text("messages"), text("meta")],
    "splits": [ref("prompt_id", "prompts.id"), text("split")],
    "origins": [
        text("id"),
        text("model"),
        text("model_hash"),
        text("adapter_hash", null=True),
        text("rendered"),
        text("prompt_ids"),
        text("sampling"),
        text("seed"),
    ],
    "completions": [
        text("id"),
        ref("prompt_id", "prompts.id"),
        ref("origin_id", "origins.id", null=True),
        text("text"),
        text("ids"),
        text("logprobs"),
        text("stop"),
    ],
    "feedback": [
        text("id"),
        text("kind"),
        ref("prompt_id", "prompts.id"),
        text("labeler"),
        text("source"),
        text("judgement"),
        ref("supersedes", "feedback.id", null=True),
    ],
    "runs": [text("id"), text("kind"), text("path"), text("config"), text("inputs"), text("versions")],
    "run_states": [ref("run_id", "runs.id"), text("status"), text("metrics")],
    "artefacts": [text("id"), ref("run_id", "runs.id"), text("kind"), text("path"), text("content_hash")],
    "comparisons": [
        ref("run_id", "runs.id"),
        sa.Column("position", sa.Integer, nullable=False),
        ref("prompt_id", "prompts.id"),
        ref("chosen_id", "completions.id"),
        ref("rejected_id", "completions.id"),
        sa.Column("p_chosen", sa.Double, nullable=False),
        text("source"),
        text("labelers"),
    ],
}
UNIQUE = {
    "guidelines": [["id"]],
    "prompts": [["id"]],
    "splits": [["prompt_id"]],
    "origins": [["id"]],
    "completions": [["id"]],
    "feedback": [["id"], ["supersedes"]],
    "runs": [["id"]],
    "artefacts": [["id"]],
    "comparisons": [["run_id", "position"]],
}
INDEXES = [
    ("splits", "split"),
    ("completions", "prompt_id"),
    ("feedback", "prompt_id"),
    ("run_states", "run_id"),
    ("artefacts", "run_id"),
]


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute(POSTGRES_FUNCTION)
    for name, columns in TABLES.items():
        unique = UNIQUE.get(name, [])
        for column in columns:
            for key in column.foreign_keys:
                key.name = f"fk_{name}_{column.name}_{key.target_fullname.split('.')[0]}"
        seq = sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity())
        op.create_table(
            name,
            seq,
            *columns,
            text("at"),
            text("sha256"),
            sa.PrimaryKeyConstraint("seq", name=f"pk_{name}"),
            *(sa.UniqueConstraint(*group, name="_".join(["uq", name, *group])) for group in unique),
            sqlite_autoincrement=True,
        )
        for statement in triggers(name, unique, dialect):
            op.execute(statement)
    for indexed, by in INDEXES:
        op.create_index(f"ix_{indexed}_{by}", indexed, [by])
