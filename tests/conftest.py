"""Fixtures for all tests: a fresh database, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import create_engine

from postgres import NoPostgres, running_postgres

# The same examples on each run, so that a change is never refused for a draw that has nothing to do with it.
# `pytest -m hypothesis --hypothesis-profile=explore` draws new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("fixed")


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16 by itself; others do it more slowly, but they do."""
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/accord.db"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"test_{uuid4().hex}"
    engine = create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield server.format(name)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of the test run's own; its URL with ``{}`` for the database's name."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'accord[postgres]')")
    try:
        with running_postgres() as url:
            yield url
    except NoPostgres as reason:
        pytest.skip(str(reason))
