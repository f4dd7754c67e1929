"""The live page of a run: beside the training, or of a run that goes on elsewhere or has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from accord.align.interrupt import interruptible
from accord.errors import ConfigError, StoreError
from accord.recipes.record import Listener, Progress
from accord.serve.feed import METRICS
from accord.serve.watch import Server, WatchConfig
from accord.store.lineage import Run
from accord.workspace import Workspace


def page(config: WatchConfig, opened: Callable[[str], None]) -> Listener:
    """Serve a run's page while it lasts; ``opened`` is called with the address.

    Raises:
        ConfigError: the port is taken. Said at once, and not when the model is loaded.
    """
    server = Server(config)

    @contextmanager
    def listen(run: Run, look: Callable[[], Run]) -> Iterator[Progress]:
        server.start(look)
        opened(server.address)
        try:
            yield lambda _: None  # the page reads the run's files
        finally:
            server.stop()

    return listen


def page_of(workspace: Workspace, section: str, port: int | None, opened: Callable[[str], None]) -> Listener:
    """The page by the workspace's settings, on another ``port`` if one is given; :func:`page` says the rest.

    Raises:
        ConfigError: ``section`` is not that of reinforcement learning, the page's only subject.
    """
    if section != "align":
        raise ConfigError("--watch shows reinforcement learning alone; leave it out with this algorithm")
    config = WatchConfig.build(workspace.section("watch"), "accord.toml [watch]")
    if port is not None:
        config = WatchConfig.build({**config.model_dump(), "port": port}, "--watch-port")
    return page(config, opened)


def watch(workspace: Workspace, name: str, config: WatchConfig, opened: Callable[[str, str], None]) -> None:
    """Serve the page of the run ``name`` (the latest of alignment without one) until it is interrupted.

    Raises:
        StoreError: there is no such run, or it keeps no figures step by step.
        ConfigError: the port is taken.
    """
    run = run_of(workspace, name)
    server = Server(config)
    server.start(lambda: workspace.store.run(run.id))
    with interruptible() as stopped:  # before anybody is told the address: Ctrl-C counts from there on
        opened(run.id, server.address)
        server.wait(stopped)
    server.stop()


def run_of(workspace: Workspace, name: str) -> Run:
    """The run ``name``, the latest of alignment without one. Raises StoreError as :func:`watch` says."""
    runs = workspace.store.runs("align")
    found = [run for run in runs if name in ("", run.id)]
    if not found:
        named = f" {name!r}" if name else ""
        known = ", ".join(run.id for run in runs[-5:]) or "none yet; start one with `accord align`"
        raise StoreError(f"there is no run of alignment{named} here; the latest are: {known}")
    run = found[-1]
    if "prompts_per_step" not in run.config and not (run.path / "training" / METRICS).exists():
        raise StoreError(f"{run.id} keeps no {METRICS}: the page shows reinforcement learning alone")
    return run
