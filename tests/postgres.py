"""A PostgreSQL of one's own on a unix socket, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoPostgres(Exception):
    """PostgreSQL is not installed or cannot run here; the message says why."""


@contextmanager
def running_postgres(fsync: bool = False) -> Iterator[str]:
    """A new server while the context lasts; its URL with ``{}`` for the database's name.

    Without ``fsync`` it is faster, and what it holds need not survive a power cut. Raises
    :class:`NoPostgres`.
    """
    initdb = _find_initdb()
    if initdb is None:
        raise NoPostgres("PostgreSQL is not installed (run scripts/install-system)")
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
                raise NoPostgres(f"PostgreSQL cannot run here: {program} says {log.read().strip()[-500:]}")

    try:
        if user is not None:
            shutil.chown(folder, user)
        run("initdb", "--username=accord", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        switch = "on" if fsync else "off"
        settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync={switch}"
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
    except KeyError as error:
        raise NoPostgres("PostgreSQL refuses to run as root and there is no user postgres") from error
    return "postgres"
