"""Migrations make the tables that the code expects; many writers lose nothing; torch stays out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from accord.errors import StoreError
from accord.judgements import Ranking
from accord.store import facts
from accord.store import rows as r
from accord.store.database import MIGRATIONS, Database
from accord.store.events import read_events
from accord.store.state import STATE
from accord.store.store import Store
from accord.store.tables import TABLES, feedback, metadata, seal
from store_examples import COMPLETIONS, PROMPTS

P, Q = PROMPTS

THIRD = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"

def upgrade():
    op.add_column("feedback", sa.Column("mood", sa.Text))
"""

WRITER = """
import sys
from accord.store.store import Store
from accord.judgements import Ranking
url, root, prompt, completion, writer = sys.argv[1:]
store = Store(url, root)
for i in range(25):
    store.add_rankings([Ranking(prompt, f"{writer}-{i}", ((completion,),))])
"""


def test_migrations_make_exactly_the_tables_of_the_code(database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert set(inspect(connection).get_table_names()) == {
            *(table.name for table in (*TABLES, *STATE)),
            "alembic_version",
        }


def test_sqlite_is_set_to_lose_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 60_000, "synchronous": 2}


def test_an_older_database_is_upgraded_with_its_rows(
    database_url: str, store: Store, ids: list[str], tmp_path: Path
) -> None:
    store.add_rankings([Ranking(P.id, "ann", ((ids[0],),))])
    before = list(store.events())
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts)
    (scripts / "versions" / "r0003_third.py").write_text(THIRD)
    store.database.migrate(scripts)
    assert store.database.revision() == "0003"
    assert "mood" in {column["name"] for column in inspect(store.database.engine).get_columns("feedback")}
    assert list(store.events()) == before
    store.database.migrate(scripts)
    if store.database.file is not None:
        copy = tmp_path / "accord.db.before-upgrade-from-0002"
        assert list(Store(f"sqlite:///{copy}", tmp_path).events()) == before
    with pytest.raises(StoreError, match=r"revision '0003'.*newer one\. Upgrade accord"):
        Store(database_url, tmp_path)


def test_a_database_of_the_first_revision_keeps_its_rows_and_seals(database_url: str, tmp_path: Path) -> None:
    first = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, first, ignore=shutil.ignore_patterns("r0002*", "__pycache__"))
    old = Database(database_url)
    old.migrate(first)
    assert old.revision() == "0001"
    with old.write() as connection:
        facts.add_prompts(connection, [P, Q])
        ((a, b, *_),) = facts.add_completions(connection, [(P.id, COMPLETIONS)])
        given = Ranking(P.id, "ann", ((a,), (b,)), seconds=2.5, note="old", id="old")
        facts.add_feedback(connection, [r.ranking_row(given)])
    assert not inspect(old.engine).has_table("queue")
    before = list(read_events(old))
    with Store(database_url, tmp_path).database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM queue").scalar_one() == 0
    new = Store(database_url, tmp_path)
    assert new.database.revision() == "0002"
    assert list(new.events()) == before
    assert list(new.rankings()) == [given]
    assert new.verify() == []
    new.close()
    old.engine.dispose()


def test_a_ranking_without_the_later_fields_is_the_row_it_always_was() -> None:
    row = r.ranking_row(Ranking("p", "ann", (("a",), ("b",)), ("c",), ("c", "a", "b"), "kind", "g", 1.5, "n"))
    assert row["id"] == "2c247d6aead1816f"
    sealed = {"at": "2026-01-01T00:00:00.000000+00:00", **row}
    assert seal(feedback, sealed) == "f99fb43fb260306f31c4d201e5daace013688b32273a43480a1efe9d1b84af9e"


def test_a_failed_upgrade_changes_nothing(store: Store, ids: list[str], tmp_path: Path) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts)
    broken = THIRD + "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
    (scripts / "versions" / "r0003_third.py").write_text(broken)
    with pytest.raises(StoreError, match="nowhere"):
        store.database.migrate(scripts)
    assert store.verify() == []
    assert "mood" not in {column["name"] for column in inspect(store.database.engine).get_columns("feedback")}


def test_a_database_of_another_program_is_left_alone(database_url: str, tmp_path: Path) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (name TEXT)"))
    with pytest.raises(StoreError, match="not accord's"):
        Store(database_url, tmp_path)
    assert inspect(engine).get_table_names() == ["customers"]


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "accord.db"
    file.write_bytes(b"precious notes " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(f"sqlite:///{file}", tmp_path)
    assert file.read_bytes() == b"precious notes " * 100


def test_processes_that_write_at_once_lose_nothing(
    store: Store, database_url: str, ids: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WRITER, database_url, str(tmp_path), P.id, ids[0]]
    writers = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    errors = [writer.communicate()[1] for writer in writers]
    assert not any(errors), errors
    assert {x.labeler for x in store.rankings()} == {f"{w}-{i}" for w in range(4) for i in range(25)}
    assert store.verify() == []


def test_threads_that_write_at_once_lose_nothing(store: Store, ids: list[str]) -> None:
    def write(writer: int) -> None:
        for i in range(10):
            store.add_rankings([Ranking(P.id, f"{writer}-{i}", ((ids[0],),))])
            store.start_run("label", {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(list(store.rankings())) == 80
    assert {run.id for run in store.runs()} == {f"label-{i}" for i in range(1, 81)}


def test_of_corrections_at_once_one_wins(store: Store, ids: list[str]) -> None:
    store.add_rankings([Ranking(P.id, "ann", ((ids[0],),), id="one")])

    def correct(i: int) -> bool:
        try:
            store.add_rankings([Ranking(P.id, "ann", ((ids[i % 4],),), seconds=i, supersedes="one")])
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(correct, range(8))) == 1
    assert len(list(store.rankings())) == 1


def test_many_may_open_a_new_database_at_once(database_url: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: Store(database_url, tmp_path), range(8)))
    assert all(store.verify() == [] for store in stores)


def test_the_store_and_the_workspace_load_no_torch() -> None:
    code = "import accord.workspace, sys; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
