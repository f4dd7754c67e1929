"""What goes into the store comes out of it, once, whole, and in order."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError, StoreError
from accord.judgements import Comparison, Ranking, Thumb
from accord.store.store import Store
from accord.types import Completion, Prompt, Stop
from store_examples import COMPLETIONS, ORIGIN, PROMPTS

P, Q = PROMPTS


def bits(values: tuple[float, ...]) -> bytes:
    return np.array(values, dtype="<f8").tobytes()


def test_prompts_come_back_whole_and_once(store: Store) -> None:
    assert store.add_prompts(PROMPTS) == [P.id, Q.id]
    assert store.add_prompts(PROMPTS) == [P.id, Q.id]
    assert store.prompts() == PROMPTS
    assert [dict(p.meta) for p in store.prompts()] == [P.meta, {}]
    assert store.prompts(ids=[Q.id, P.id]) == [Q, P]


def test_a_prompt_keeps_its_split(store: Store) -> None:
    store.add_prompts([P], split="train")
    store.add_prompts([Q])
    store.add_prompts([Q], split="test")
    store.add_prompts([P])
    assert store.prompts(split="train") == [P]
    assert store.prompts(split="test") == [Q]
    assert store.prompts(split="none") == []
    with pytest.raises(DataError, match="another split, 'train', not 'test'"):
        store.add_prompts([Q, P], split="test")


def test_one_id_cannot_hold_two_contents(store: Store) -> None:
    store.add_prompts([P])
    with pytest.raises(DataError, match="another messages"):
        store.add_prompts([replace(Q, id=P.id)])
    with pytest.raises(DataError, match="another meta"):
        store.add_prompts([Q, replace(P, meta={"order": {"days": 4}})])
    assert store.prompts() == [P], "the call that failed stored its first prompt"
    store.add_prompts([replace(P, meta={})])
    assert store.prompts()[0].meta == P.meta


def test_completions_come_back_to_the_bit(store: Store, ids: list[str]) -> None:
    found = store.completions([P.id])[P.id]
    assert found == [replace(c, id=id) for c, id in zip(COMPLETIONS, ids, strict=False)]
    assert bits(found[0].logprobs) == bits(COMPLETIONS[0].logprobs)
    assert found[0].origin == ORIGIN
    assert found[1].stop is Stop.LENGTH
    assert store.completions().keys() == {P.id, Q.id}
    assert store.completions([Q.id, "unknown"])["unknown"] == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    logprobs=st.lists(st.floats(max_value=0, allow_nan=False, allow_infinity=False)),
    seed=st.integers(-(2**64), 2**64),
)
def test_any_completion_comes_back(store: Store, text: str, logprobs: list[float], seed: int) -> None:
    prompt = Prompt.from_text(repr(logprobs))
    given = Completion(text, tuple(range(len(logprobs))), tuple(logprobs), origin=replace(ORIGIN, seed=seed))
    ((id,),) = store.add_groups([(prompt, [given])])
    (found,) = [c for c in store.completions([prompt.id])[prompt.id] if c.id == id]
    assert (found.text, found.origin) == (given.text, given.origin)
    assert bits(found.logprobs) == bits(given.logprobs)


def test_the_same_sample_is_one_completion_and_another_seed_another(store: Store, ids: list[str]) -> None:
    again = store.add_completions(P.id, [COMPLETIONS[0], COMPLETIONS[0]])
    assert again == [ids[0], ids[0]]
    other = replace(COMPLETIONS[0], origin=replace(ORIGIN, seed=1))
    assert store.add_completions(P.id, [other]) != ids[:1]
    assert ids[0] != ids[4], "the same text under two prompts is two completions"
    assert store.counts()["completions"] == 6
    assert store.counts()["origins"] == 2


def test_completions_that_cannot_be_kept_are_refused_whole(store: Store) -> None:
    with pytest.raises(DataError, match="add it first with add_prompts"):
        store.add_completions("nowhere", [COMPLETIONS[0]])
    store.add_prompts([P])
    for bad, match in [
        (Completion("x", (1,), (math.nan,)), "is nan; the store holds finite numbers"),
        (Completion("lone \ud800"), "lone surrogate"),
        (replace(COMPLETIONS[0], origin=replace(ORIGIN, sampling={1: 2})), "key 1"),
        (replace(COMPLETIONS[0], origin=replace(ORIGIN, sampling={"x": {3}})), "is a set"),
        (replace(COMPLETIONS[0], origin=replace(ORIGIN, model_hash="a\x00")), "NUL"),
    ]:
        with pytest.raises(DataError, match=match):
            store.add_completions(P.id, [COMPLETIONS[3], bad])
    assert store.completions() == {}


def test_rankings_come_back_in_order_and_once(store: Store, ids: list[str]) -> None:
    full = Ranking(
        P.id,
        "ann",
        ((ids[1],), (ids[0], ids[2])),
        fails=(ids[3],),
        shown=tuple(ids[:4]),
        criterion="helpful",
        guidelines="ab12",
        seconds=12.25,
        note="NUL \x00 in a note",
        source="human",
        id="key-1",
    )
    bare = Ranking(P.id, "bob", ((ids[2],),), seconds=3)
    assert store.add_rankings([full, bare])[0] == "key-1"
    assert store.add_rankings([full, bare, bare]) == store.add_rankings([full, bare, bare])
    first, second = store.rankings()
    assert first == full
    assert second == replace(bare, id=second.id)
    with pytest.raises(DataError, match="'key-1' is stored with another judgement"):
        store.add_rankings([replace(full, note="another")])


def test_a_judgement_of_foreign_or_unknown_completions_is_refused(store: Store, ids: list[str]) -> None:
    good = Ranking(P.id, "ann", ((ids[0],),))
    for bad in (
        Ranking(P.id, "ann", ((ids[4],),)),
        Ranking(P.id, "ann", ((ids[0],), ("unknown",))),
        Ranking(P.id, "ann", (), fails=(ids[4],)),
        Ranking(P.id, "ann", (), shown=(ids[4],)),
    ):
        with pytest.raises(DataError, match="is not stored as one of prompt"):
            store.add_rankings([good, Ranking(Q.id, "ann", ((ids[4],),)), bad])
    with pytest.raises(DataError, match="is not stored as one of prompt"):
        store.add_thumbs([Thumb(P.id, ids[4], "ann", True)])
    with pytest.raises(DataError, match="prompt 'unknown' is not stored"):
        store.add_rankings([replace(good, prompt_id="unknown")])
    assert list(store.rankings(current=False)) == []


def test_a_correction_supersedes(store: Store, ids: list[str]) -> None:
    wrong = Ranking(P.id, "ann", ((ids[0],), (ids[1],)), id="wrong")
    right = Ranking(P.id, "ann", ((ids[1],), (ids[0],)), supersedes="wrong", id="right")
    third = Ranking(P.id, "ann", ((ids[2],),), supersedes="right", id="third")
    store.add_rankings([wrong, right])
    store.add_rankings([third])
    store.add_rankings([right])  # sent again, late
    assert [x.id for x in store.rankings()] == ["third"]
    assert [x.id for x in store.rankings(current=False)] == ["wrong", "right", "third"]


def test_an_unsound_correction_is_refused(store: Store, ids: list[str]) -> None:
    store.add_rankings([Ranking(P.id, "ann", ((ids[0],),), id="one")])
    store.add_thumbs([Thumb(P.id, ids[0], "ann", True, id="vote")])
    correction = Ranking(P.id, "ann", ((ids[1],),), supersedes="one")
    for bad, match in [
        (replace(correction, supersedes="unknown"), "not stored"),
        (replace(correction, labeler="bob"), "another labeler"),
        (Ranking(Q.id, "ann", ((ids[4],),), supersedes="one"), "another prompt_id"),
        (replace(correction, supersedes="vote"), "another kind"),
        (replace(correction, id="self", supersedes="self"), "not stored"),
    ]:
        with pytest.raises(DataError, match=match):
            store.add_rankings([bad])
    with pytest.raises(DataError, match="another completion"):
        store.add_thumbs([Thumb(P.id, ids[1], "ann", True, supersedes="vote")])
    store.add_rankings([correction])
    with pytest.raises(DataError, match=r"superseded by .* already"):
        store.add_rankings([replace(correction, tiers=((ids[2],),))])
    assert store.counts()["feedback"] == 3


def test_the_latest_vote_counts(store: Store, ids: list[str]) -> None:
    up, down = Thumb(P.id, ids[0], "ann", True), Thumb(P.id, ids[0], "ann", False)
    other = Thumb(P.id, ids[0], "bob", True)
    votes = [store.add_thumbs([vote])[0] for vote in (up, down, other, up, up)]
    assert votes[3] == votes[4] != votes[0]
    assert [(x.labeler, x.up) for x in store.thumbs()] == [("bob", True), ("ann", True)]
    assert [x.up for x in store.thumbs(current=False) if x.labeler == "ann"] == [True, False, True]
    batch = store.add_thumbs([down, up, up])
    assert batch[1] == batch[2]
    assert [x.id for x in store.thumbs(current=False)][4:] == batch[:2]
    assert store.verify() == []


def test_a_vote_with_a_key_is_stored_once_however_late_it_is_sent_again(store: Store, ids: list[str]) -> None:
    first = Thumb(P.id, ids[0], "ann", True, id="k1")
    second = Thumb(P.id, ids[0], "ann", False, id="k2")
    store.add_thumbs([first, second, second])
    store.add_thumbs([second, first])
    assert list(store.thumbs()) == [replace(second, supersedes="k1")]
    with pytest.raises(DataError, match="'k1' is stored with another judgement"):
        store.add_thumbs([replace(first, up=False)])


def test_guidelines_are_kept_by_version(store: Store) -> None:
    old, new = store.add_guidelines("Be fair."), store.add_guidelines("Be fair and quick.")
    assert old != new
    assert store.add_guidelines("Be fair.") == old
    assert store.guidelines(old) == "Be fair."
    with pytest.raises(StoreError, match="'nope'"):
        store.guidelines("nope")


def test_comparisons_come_back_by_run(store: Store, ids: list[str]) -> None:
    a, b, c, _ = store.completions([P.id])[P.id]
    pairs = [
        Comparison(P, a, b, 1 - 1e-16, "human", ("ann", "bob")),
        Comparison(P, b, c, 0.5, "simulated"),
        Comparison(Prompt.from_text("new"), Completion("yes"), Completion("no"), 2 / 3, "import:trl"),
    ]
    with pytest.raises(StoreError, match="no finished agree run"):
        store.comparisons()
    for some in (pairs[:1], pairs):
        run = store.start_run("agree", {})
        store.add_comparisons(some, run.id)
        store.finish_run(run.id, "done", {})
    store.start_run("agree", {})
    latest = store.comparisons()
    assert latest[:2] == pairs[:2]
    assert (latest[2].chosen.text, latest[2].rejected.text, latest[2].p_chosen) == ("yes", "no", 2 / 3)
    assert store.comparisons("agree-1") == pairs[:1]
    assert store.comparisons("agree-3") == []
    with pytest.raises(StoreError, match="has its comparisons already"):
        store.add_comparisons(pairs, "agree-1")
    with pytest.raises(StoreError, match="no run 'agree-9'"):
        store.comparisons("agree-9")


def test_ten_thousand_rankings_take_seconds(store: Store, ids: list[str]) -> None:
    rankings = [Ranking(P.id, f"labeler {i}", tuple((c,) for c in ids[:4])) for i in range(10_000)]
    start = time.perf_counter()
    store.add_rankings(rankings)
    assert time.perf_counter() - start < 10
    stream = store.rankings()
    assert next(stream).labeler == "labeler 0"
    assert [x.labeler for x in stream] == [f"labeler {i}" for i in range(1, 10_000)]


def test_more_ids_than_a_statement_may_have_variables(store: Store, ids: list[str]) -> None:
    assert len(store.completions([P.id, *map(str, range(70_000))])[P.id]) == 4


def test_a_store_can_be_written_while_it_is_read(store: Store, ids: list[str]) -> None:
    store.add_rankings([Ranking(P.id, f"labeler {i}", ((ids[0],),)) for i in range(3000)])
    seen = 0
    for i, _ in enumerate(store.rankings()):
        if i % 1000 == 0:
            store.add_rankings([Ranking(P.id, f"late {i}", ((ids[0],),))])
        seen += 1
    assert seen == 3000, "the reader's snapshot moved"
    assert len(list(store.rankings())) == 3003


def test_urls_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    for url, match in [
        ("accord.db", "not a database URL"),
        ("mysql://host/name", "sqlite or postgresql"),
        ("sqlite://", "names no file"),
        ("postgresql+nodriver://host/name", "pip install"),
    ]:
        with pytest.raises(ConfigError, match=match):
            Store(url, tmp_path)
    with pytest.raises(StoreError, match="unable to open"):
        Store(f"sqlite:///{tmp_path}/missing/accord.db", tmp_path)


def test_a_password_stays_out_of_errors(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as caught:
        Store("postgresql+psycopg://ann:s3cret@127.0.0.1:1/none", tmp_path)
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
