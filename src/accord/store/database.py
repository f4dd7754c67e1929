"""One database, SQLite or PostgreSQL: connections, transactions, migrations.

Writers take turns (``BEGIN IMMEDIATE`` on SQLite, an advisory lock on PostgreSQL), so a check and
the insert it guards are one step and ``seq`` is the order of commits. SQLite lets writers sleep and
try again, and the unlucky one of many sleeps on; so the threads of one process queue here first.
Readers see one snapshot and wait for nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from accord.errors import ConfigError, StoreError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 60
WRITER_LOCK = 0x6163636F7264  # "accord"


class Database:
    """Connections to one database. Raises :class:`ConfigError` for a URL that cannot be used."""

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.name = self.url.render_as_string(hide_password=True)
        self.engine = _engine(self.url)
        self._turns = Turns() if self.dialect == "sqlite" else nullcontext()

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    @property
    def file(self) -> Path | None:
        """SQLite's file; ``None`` on a server."""
        return Path(self.url.database or "") if self.dialect == "sqlite" else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one snapshot from first to last row."""
        with self._errors(), self.engine.connect() as connection:
            if self.dialect == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer overlaps; committed whole or not at all."""
        engine = self.engine.execution_options(writes=True)
        with self._turns, self._errors(), engine.begin() as connection:
            if self.dialect == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise StoreError(
                f"database {self.name}: {str(error.orig).strip()}; nothing was written. "
                "Check that it is reachable, not held by another program, and that the disk has room"
            ) from error
        except DBAPIError as error:
            raise StoreError(
                f"database {self.name}: {str(error.orig).strip()}; nothing was written"
            ) from error

    def revision(self) -> str | None:
        """The migration the database stands at; ``None`` for one without accord's tables."""
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def migrate(self, scripts: Path = MIGRATIONS) -> None:
        """Bring the database to the newest revision, after a check and (on SQLite) a copy of an older one.

        Raises :class:`StoreError` for a database of another program or of a newer accord.
        """
        config = alembic_config(scripts)
        directory = ScriptDirectory.from_config(config)
        revision, head = self.revision(), directory.get_current_head()
        if revision == head:
            return
        if revision is None and inspect(self.engine).get_table_names():
            raise StoreError(
                f"database {self.name} holds tables that are not accord's; name an empty one in accord.toml"
            )
        if revision is not None:
            if revision not in {script.revision for script in directory.walk_revisions()}:
                raise StoreError(
                    f"database {self.name} stands at revision {revision!r}, which this accord does not know: "
                    "it was written by a newer one. Upgrade accord"
                )
            self._check_before_upgrade(revision)
        with self.write() as connection:
            # another process may have upgraded it while this one waited for its turn
            if MigrationContext.configure(connection).get_current_revision() == revision:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def _check_before_upgrade(self, revision: str) -> None:
        if self.file is None:
            return
        damage = self.damage()
        if damage:
            raise StoreError(f"database {self.name} is damaged and was not upgraded: {damage[0]}")
        copy = self.file.with_name(f"{self.file.name}.before-upgrade-from-{revision}")
        if not copy.exists():
            with self._errors(), self.engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None
                raw.execute("VACUUM INTO ?", (str(copy),))

    def damage(self) -> list[str]:
        """What SQLite's own check of its file finds wrong; empty on a server, which keeps its own watch."""
        if self.dialect != "sqlite":
            return []
        with self.read() as connection:
            found = [row[0] for row in connection.exec_driver_sql("PRAGMA quick_check")]
        return [] if found == ["ok"] else found


class Turns:
    """A lock that goes to the thread that has waited longest, for ``BUSY_SECONDS`` at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below, never held for long
        self._taken = False
        self._queue: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._queue.append(mine)
        try:
            if mine.acquire(timeout=BUSY_SECONDS):
                return
            raise StoreError(
                f"the database was written to by other threads for {BUSY_SECONDS} s; nothing was written. "
                "Try again, and see that no transaction waits for another of its own thread"
            )
        except BaseException:
            self._leave(mine)
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._queue:
            self._queue.popleft().release()  # still taken: the next one holds it
        else:
            self._taken = False

    def _leave(self, mine: threading.Lock) -> None:
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            else:
                self._pass_on()  # the turn came in the same moment


def alembic_config(scripts: Path = MIGRATIONS) -> AlembicConfig:
    """Alembic's settings, made here so that no alembic.ini is needed."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            f"database = {url!r} is not a database URL; write sqlite:///accord.db or "
            "postgresql+psycopg://user@host/name"
        ) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"database = {backend!r}...: accord keeps its store in sqlite or postgresql")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError(f"database = {url!r} names no file; write sqlite:///accord.db")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "postgresql":
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigError(
            f"database {url.render_as_string(hide_password=True)} needs a driver that is not installed "
            f"({error}); run pip install 'accord[postgres]' and write postgresql+psycopg://..."
        ) from error
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours (_begin_sqlite), not the driver's guess
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a label that was acknowledged survives a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
