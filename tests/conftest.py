"""Fixtures for all tests: a fresh database, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import create_engine

# The same examples on each run, so that a change is never refused for a draw that has nothing to do with it.
# `pytest -m hypothesis --hypothesis-profile=explore` draws new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("fixed")


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
    """A PostgreSQL of the test run's own, on a unix socket; its URL with ``{}`` for the database's name."""
    initdb = _find_initdb()
    if initdb is None:
        pytest.skip("PostgreSQL is not installed (run scripts/install-system)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'accord[postgres]')")
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="accord-pg-"))  # short: a socket's path has 107 bytes at most
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(initdb.with_name(program)), "-D", str(data), *arguments]
        # output to a file: the server inherits it, and a pipe would stay open as long as the server runs
        with (folder / f"{program}.log").open("w+") as log:
            done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, user=user, check=False)
            log.seek(0)
            if done.returncode:
                pytest.skip(f"PostgreSQL cannot run here: {program} says {log.read().strip()[-500:]}")

    try:
        if user is not None:
            shutil.chown(folder, user)
        run("initdb", "--username=accord", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "start", "--wait", f"--log={folder / 'server.log'}", "--options", settings)
        try:
            yield f"postgresql+psycopg://accord@/{{}}?host={folder}"
        finally:
            run("pg_ctl", "stop", "--mode=immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_initdb() -> Path | None:
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(versions, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0)
    on_path = shutil.which("initdb")
    return newest[-1] if newest else Path(on_path) if on_path else None


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; Debian's package makes a user for it."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL refuses to run as root and there is no user postgres")
    return "postgres"
