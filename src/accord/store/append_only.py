"""Triggers that make a table append-only, for SQLite and PostgreSQL. Migrations call them."""

from __future__ import annotations

from collections.abc import Sequence

POSTGRES_FUNCTION = """
CREATE FUNCTION accord_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: add a row that supersedes instead', TG_TABLE_NAME;
END $$
"""


def triggers(table: str, unique: Sequence[Sequence[str]], dialect: str) -> list[str]:
    """DDL that forbids UPDATE, DELETE (and TRUNCATE) on ``table``, whose unique keys are ``unique``.

    SQLite's ``INSERT OR REPLACE`` deletes rows without firing their delete trigger, so there an
    insert that meets a stored unique key is refused before it can replace anything.
    """
    if dialect == "postgresql":
        return [
            f"CREATE TRIGGER {table}_keep_rows BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION accord_append_only()",
            f"CREATE TRIGGER {table}_keep_table BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION accord_append_only()",
        ]
    refuse = f"SELECT RAISE(ABORT, '{table} is append-only: add a row that supersedes instead');"
    keys = [" AND ".join(f"{column} = NEW.{column}" for column in key) for key in (["seq"], *unique)]
    stored = " OR ".join(f"EXISTS (SELECT 1 FROM {table} WHERE {key})" for key in keys)
    return [
        f"CREATE TRIGGER {table}_keep_update BEFORE UPDATE ON {table} BEGIN {refuse} END",
        f"CREATE TRIGGER {table}_keep_delete BEFORE DELETE ON {table} BEGIN {refuse} END",
        f"CREATE TRIGGER {table}_keep_replace BEFORE INSERT ON {table} WHEN {stored} BEGIN {refuse} END",
    ]


def trigger_names(table: str, dialect: str) -> list[str]:
    """Names of the triggers that must stand on ``table``."""
    kept = ("rows", "table") if dialect == "postgresql" else ("update", "delete", "replace")
    return [f"{table}_keep_{what}" for what in kept]
