"""A socket to serve on, and the address people reach it by."""

from __future__ import annotations

import errno
import socket

from accord.errors import ConfigError

EVERYWHERE = ("0.0.0.0", "::", "")
HERE = ("127.0.0.1", "::1", "localhost")


def listen(host: str, port: int) -> socket.socket:
    """A socket on the address. Raises :class:`ConfigError` that says what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        where = f"{host} port {port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{where} is taken, perhaps by another accord; choose another with --port "
                "(--watch-port of `accord align`), or 0 for any that is free"
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(f"{where} needs rights that this user lacks; choose one above 1023") from error
        raise ConfigError(
            f"cannot listen on {where} ({error.strerror or error}); --host 127.0.0.1 is this computer alone, "
            "--host 0.0.0.0 every network it is in"
        ) from error


def address_of(host: str, port: int) -> str:
    """The address that people reach it by, as far as this computer can tell."""
    name = _own_address() if host in EVERYWHERE else host
    shown = f"[{name}]" if ":" in name else "localhost" if name == "127.0.0.1" else name
    return f"http://{shown}:{port}"


def _own_address() -> str:
    """This computer's address in its network: the one that packets to the outside leave from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of the block for documentation; nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
