"""People on disk: to the bit, the latest counts, shown whole, gone whole."""

import json

import numpy as np
import pytest

from accord.errors import DataError, StoreError
from accord.reward.people import People
from accord.reward.taste import Opinion, Taste, posterior

TASTE = Taste(np.array([[1 / 3, 0.1], [0.1, 0.7]]), scale=np.pi, habit=0.2, people=2, judgements=9, gain=0.01)
SAID = [Opinion(f"k{i}", (0.1 * i, 1 / (i + 3)), 0.3 - i / 7, float(i % 2), thumb=i == 4) for i in range(6)]


@pytest.fixture
def people(tmp_path):
    return People.create(tmp_path / "people", TASTE, {"ann": SAID[:3]})


def files_with(folder, text):
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_text()]


def test_a_reopened_folder_gives_the_same_bits(people):
    held = people.judge("bob/../ö", *SAID)
    again = People.open(people.folder)
    assert again.taste.cov_KK.tolist() == TASTE.cov_KK.tolist()
    assert (again.taste.scale, again.taste.habit, again.taste.gain) == (TASTE.scale, TASTE.habit, TASTE.gain)
    assert again.opinions("bob/../ö") == SAID
    found = again.belief("bob/../ö")
    assert (found.mean_K.tolist(), found.cov_KK.tolist()) == (held.mean_K.tolist(), held.cov_KK.tolist())
    assert again.names() == ["ann", "bob/../ö"]
    assert all(people.folder in path.resolve().parents for path in people.folder.rglob("*.json"))


def test_one_by_one_is_all_at_once(people):
    for opinion in SAID:
        last = people.judge("bob", opinion)
    batch = posterior(TASTE, SAID)
    assert (last.mean_K.tolist(), last.cov_KK.tolist()) == (batch.mean_K.tolist(), batch.cov_KK.tolist())


def test_a_later_opinion_of_the_same_counts_in_place_of_the_earlier(people):
    people.judge("bob", SAID[1], SAID[2])
    turned = Opinion("k1", SAID[1].x_K, SAID[1].gap, 1 - SAID[1].p)
    people.judge("bob", turned)
    assert people.opinions("bob") == [SAID[2], turned]


def test_of_nobody_there_is_the_prior_and_no_file(people):
    assert people.belief("new").mean_K.tolist() == [0.0] * 3
    assert people.names() == ["ann"]
    assert people.opinions("new") == []


def test_export_shows_all_and_deletion_leaves_nothing(people):
    people.judge("bob", *SAID)
    shown = people.export("bob")
    assert json.loads(json.dumps(shown)) == shown
    assert shown["name"] == "bob"
    assert [row["key"] for row in shown["opinions"]] == [o.key for o in SAID]
    assert shown["weights"]["mean"] == people.belief("bob").mean_K.tolist()
    before = (people.folder / "taste.json").read_bytes()
    assert files_with(people.folder, "bob")
    gone = people.delete("bob")
    assert (gone.opinions, gone.remains[:7]) == (6, "nothing")
    assert not files_with(people.folder, "bob")
    assert not files_with(people.folder, repr(SAID[5].gap))
    assert (people.folder / "taste.json").read_bytes() == before
    assert people.belief("bob").mean_K.tolist() == [0.0] * 3
    for action in (people.delete, people.export):
        with pytest.raises(DataError, match="nothing of 'bob'"):
            action("bob")


def test_of_who_is_in_the_population_it_is_said_what_remains(people):
    people.judge("ann", SAID[5])
    assert "tastes of 2 people" in people.delete("ann").remains


def test_what_cannot_be_used_is_not_written(people):
    before = people.opinions("ann")
    with pytest.raises(DataError, match="1 features"):
        people.judge("ann", Opinion("x", (1.0,), 0.0, 1.0))
    with pytest.raises(DataError, match="finite"):
        people.judge("ann", Opinion("x", (1.0, float("nan")), 0.0, 1.0))
    with pytest.raises(DataError, match="without a person"):
        people.judge("", SAID[0])
    assert people.opinions("ann") == before
    assert not list(people.folder.rglob("*.draft"))


def test_folders_that_are_none_are_refused(people, tmp_path):
    with pytest.raises(StoreError, match="not empty"):
        People.create(people.folder, TASTE)
    with pytest.raises(StoreError, match="no tastes"):
        People.open(tmp_path)
    (file,) = (people.folder / "people").iterdir()
    file.write_text(file.read_text()[:50])
    with pytest.raises(StoreError, match="damaged"):
        people.opinions("ann")
    known = json.loads((people.folder / "taste.json").read_text())
    (people.folder / "taste.json").write_text(json.dumps(known | {"format": 99}))
    with pytest.raises(StoreError, match="format"):
        People.open(people.folder)
