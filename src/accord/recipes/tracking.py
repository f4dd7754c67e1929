"""A run's figures to Weights & Biases, trackio or TensorBoard as well, where that is asked for.

``metrics.jsonl`` is written always and is what accord itself reads; a tracker gets the same figures under the
same names. Each library is an extra and is imported only when it is asked for.
"""

from __future__ import annotations

import importlib
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any, Literal, Protocol

from accord.errors import ConfigError
from accord.recipes.record import Listener, Progress
from accord.store.lineage import Run, Status
from accord.types import digest
from accord.workspace import Workspace

Tracker = Literal["wandb", "trackio", "tensorboard"]
_LOG = logging.getLogger("accord.tracking")


class Diary(Protocol):
    """An open tracker."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Figures of a step, counted from 1."""
        ...

    def close(self, well: bool) -> None:
        """The end, and whether the run ended well."""
        ...


def track(name: Tracker, workspace: Workspace) -> Listener:
    """Keep a run's figures in the tracker; the project is named after the workspace's folder.

    A tracker that fails in the middle is given up with a warning, for training must not end over it.

    Raises:
        ConfigError: its library is not installed; naming the extra. When the run begins: it cannot start.
    """
    module = _library(name)
    project = workspace.path.resolve().name

    @contextmanager
    def listen(run: Run, look: Callable[[], Run]) -> Iterator[Progress]:
        try:
            diary = _OPEN[name](module, project, run)
        except Exception as error:
            raise ConfigError(f"{name} cannot start: {error}. {_ADVICE[name]}") from error
        notes = Notes(name, diary)
        try:
            yield notes
        finally:
            notes.close(look().status in (Status.DONE, Status.INTERRUPTED))

    return listen


class Notes:
    """Progress that is written into a diary, until that fails. A figure that is undefined is left out."""

    def __init__(self, name: str, diary: Diary) -> None:
        self.name, self.diary = name, diary
        self.step = 0
        self.failed = False

    def __call__(self, metrics: Mapping[str, float]) -> None:
        # a way of several rounds counts the steps of each from 1; a tracker wants them to rise
        self.step = max(int(metrics["step"]), self.step + 1)
        figures = {key: value for key, value in metrics.items()
                   if key not in ("step", "steps") and math.isfinite(value)}  # fmt: skip
        self._try(lambda: self.diary.log(figures, self.step))

    def close(self, well: bool) -> None:
        """End the diary."""
        self._try(lambda: self.diary.close(well))

    def _try(self, action: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            action()
        except Exception as error:
            self.failed = True
            _LOG.warning(
                "%s failed and gets no more figures (metrics.jsonl has them all): %s", self.name, error
            )


def _library(name: Tracker) -> Any:
    module = {"tensorboard": "torch.utils.tensorboard"}.get(name, name)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--track {name} needs a package that is not installed ({error}); "
            f"install it with: pip install 'accord[{name}]'"
        ) from error


def _id(run: Run) -> str:
    """Known again when the run is resumed, and not mistaken for another workspace's."""
    return f"{run.id}-{digest(str(run.path), run.started)[:8]}"


class _Wandb:
    def __init__(self, wandb: Any, project: str, run: Run) -> None:
        self.run = wandb.init(project=project, name=run.id, id=_id(run), resume="allow",
                              config=dict(run.config), dir=str(run.path))  # fmt: skip

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def close(self, well: bool) -> None:
        self.run.finish(exit_code=0 if well else 1)


class _Trackio:
    """It speaks on standard output, where accord's own figures go, and is made to speak on standard error."""

    def __init__(self, trackio: Any, project: str, run: Run) -> None:
        self.trackio = trackio
        with redirect_stdout(sys.stderr):
            trackio.init(project=project, name=_id(run), config=dict(run.config), resume="allow")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        with redirect_stdout(sys.stderr):
            self.trackio.log(dict(figures), step=step)

    def close(self, well: bool) -> None:
        with redirect_stdout(sys.stderr):
            self.trackio.finish()


class _TensorBoard:
    """Event files in ``tensorboard/`` of the run's folder."""

    def __init__(self, tensorboard: Any, project: str, run: Run) -> None:
        self.make = tensorboard.SummaryWriter
        self.folder = run.path / "tensorboard"
        self.writer: Any = None

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if self.writer is None:  # only now: steps that a resumed run does again must not stand twice
            self.writer = self.make(str(self.folder), purge_step=step)
        for name, value in figures.items():
            self.writer.add_scalar(name.replace(" ", "_"), value, step)
        self.writer.flush()

    def close(self, well: bool) -> None:
        if self.writer is not None:
            self.writer.close()


_OPEN: Mapping[Tracker, Callable[[Any, str, Run], Diary]] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
    "tensorboard": _TensorBoard,
}
_ADVICE = {
    "wandb": "Log in with `wandb login`, or set WANDB_MODE=offline and send it later with `wandb sync`",
    "trackio": "Without TRACKIO_SPACE_ID it keeps all on this computer",
    "tensorboard": "It writes into the run's folder",
}
