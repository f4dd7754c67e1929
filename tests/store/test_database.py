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
from accord.store.database import MIGRATIONS, Database
from accord.store.store import Store
from accord.store.tables import TABLES, metadata
from accord.types import Ranking
from store_examples import PROMPTS

P, Q = PROMPTS

SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

def upgrade():
    op.add_column("feedback", sa.Column("mood", sa.Text))
"""

WRITER = """
import sys
from accord.store.store import Store
from accord.types import Ranking
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
        assert set(inspect(connection).get_table_names()) == {t.name for t in TABLES} | {"alembic_version"}


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
    (scripts / "versions" / "r0002_second.py").write_text(SECOND)
    store.database.migrate(scripts)
    assert store.database.revision() == "0002"
    assert "mood" in {column["name"] for column in inspect(store.database.engine).get_columns("feedback")}
    assert list(store.events()) == before
    store.database.migrate(scripts)
    if store.database.file is not None:
        copy = tmp_path / "accord.db.before-upgrade-from-0001"
        assert list(Store(f"sqlite:///{copy}", tmp_path).events()) == before
    with pytest.raises(StoreError, match=r"revision '0002'.*newer one\. Upgrade accord"):
        Store(database_url, tmp_path)


def test_a_failed_upgrade_changes_nothing(store: Store, ids: list[str], tmp_path: Path) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts)
    broken = SECOND + "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
    (scripts / "versions" / "r0002_second.py").write_text(broken)
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
