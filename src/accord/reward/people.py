"""People's opinions on disk, one file a person: what is held of somebody can be shown and deleted whole.

    taste.json            how people differ: numbers of the population, nobody's own
    people/<digest>.json  one person: name and opinions in numbers, without any text

A person's weights are not kept: they are computed again from the opinions, to the same bits. One process
writes at a time. Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord.errors import DataError, StoreError
from accord.reward.taste import Opinion, Taste, posterior
from accord.stats.logistic import Posterior
from accord.types import digest

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did and what it could not do."""

    opinions: int
    remains: str


class People:
    """The tastes of people in a folder. Make one with :meth:`create` or :meth:`open`."""

    def __init__(self, folder: Path, taste: Taste) -> None:
        self.folder, self.taste = folder, taste

    @classmethod
    def create(cls, folder: str | Path, taste: Taste, people: Mapping[str, Iterable[Opinion]] = {}) -> People:
        """A new folder with the tastes of a population and, if given, the people it was learned from.

        Raises:
            StoreError: there is something in the folder.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty; name another folder, or open it with People.open")
        (folder / "people").mkdir(parents=True)
        made = cls(folder, taste)
        known = {**asdict(taste), "cov_KK": taste.cov_KK.tolist(), "format": FORMAT}
        _write(folder / "taste.json", known)
        for name, opinions in people.items():
            made._write_person(name, {o.key: o for o in opinions}, in_taste=True)
        return made

    @classmethod
    def open(cls, folder: str | Path) -> People:
        """The folder of an earlier :meth:`create`.

        Raises:
            StoreError: it is none, or was written by a later accord.
        """
        path = Path(folder) / "taste.json"
        if not path.is_file():
            raise StoreError(f"{folder} holds no tastes (taste.json); make it with People.create")
        known = _read(path)
        if known.pop("format", None) != FORMAT:
            raise StoreError(
                f"{path} is of another format than {FORMAT}; open it with the accord that wrote it"
            )
        return cls(Path(folder), Taste(**known | {"cov_KK": np.array(known["cov_KK"], np.float64)}))

    def names(self) -> list[str]:
        """Everybody there is."""
        return sorted(_read(path)["name"] for path in (self.folder / "people").glob("*.json"))

    def opinions(self, name: str) -> list[Opinion]:
        """What a person said, in the order it came; nothing of somebody unknown."""
        path = self._path(name)
        return [_opinion(row) for row in _read(path)["opinions"]] if path.exists() else []

    def belief(self, name: str) -> Posterior:
        """A person's weights, the habit last; of somebody unknown the population's, with mean zero."""
        return posterior(self.taste, self.opinions(name))

    def judge(self, name: str, *opinions: Opinion) -> Posterior:
        """Add what a person said, a later opinion of the same thing in place of the earlier; then the belief.

        Raises:
            DataError: the name is empty, or an opinion has another number of features.
        """
        if not name:
            raise DataError("an opinion without a person; pass who judged")
        held = {o.key: o for o in self.opinions(name)}
        for opinion in opinions:
            held.pop(opinion.key, None)
            held[opinion.key] = opinion
        found = posterior(self.taste, list(held.values()))  # what cannot be used is not written
        path = self._path(name)
        in_taste = path.exists() and _read(path)["in_taste"]
        self._write_person(name, held, in_taste)
        return found

    def export(self, name: str) -> dict[str, Any]:
        """All that is held of a person, and the weights computed from it, as JSON-ready data.

        Raises:
            DataError: nobody of that name is there.
        """
        if not self._path(name).exists():
            raise DataError(f"there is nothing of {name!r} here")
        belief = self.belief(name)
        weights = {"mean": belief.mean_K.tolist(), "covariance": belief.cov_KK.tolist()}
        return {**_read(self._path(name)), "weights": weights}

    def delete(self, name: str) -> Deleted:
        """Remove a person's file, and with it all that is held of them here.

        Raises:
            DataError: nobody of that name is there.
        """
        path = self._path(name)
        if not path.exists():
            raise DataError(f"there is nothing of {name!r} here")
        held = _read(path)
        path.unlink()
        remains = "nothing: the tastes of the population were learned without this person"
        if held["in_taste"]:
            remains = (
                f"the covariance of the tastes of {self.taste.people} people and the scale of the reward, "
                "learned with this person among them; no opinion of theirs is in it. To be rid of that too, "
                "learn them anew from the others with fit_taste"
            )
        return Deleted(len(held["opinions"]), remains)

    def _path(self, name: str) -> Path:
        return self.folder / "people" / f"{digest('person', name)}.json"

    def _write_person(self, name: str, held: Mapping[str, Opinion], in_taste: bool) -> None:
        rows = [asdict(opinion) for opinion in held.values()]
        _write(self._path(name), {"name": name, "in_taste": in_taste, "opinions": rows})


def _opinion(row: Mapping[str, Any]) -> Opinion:
    return Opinion(**{**row, "x_K": tuple(row["x_K"])})


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); restore it from a backup or delete it") from error


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all: a reader never sees half a file."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)
