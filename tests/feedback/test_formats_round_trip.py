"""What is written is read back, as far as each format can carry it; files are whole or not there."""

import csv
import gzip
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError
from accord.feedback.formats.gather import Feedback
from accord.feedback.formats.read import read_feedback
from accord.feedback.formats.write import write_feedback
from accord.judgements import Comparison, Ranking, Thumb
from accord.types import Completion, Message, Origin, Prompt, Stop, digest

FILES = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])

NASTY = st.sampled_from(
    [
        'a,"b"', "line\r\nbreak", "\n\n", "\r", "é\u2028\U0001f600", "[]", "[{", " lead", "trail ", "null",
        "NaN", "1", "true", "\x00", "\ufeff", "'; DROP TABLE", "=1+1", '"', "\\",
        '[{"role": "user", "content": "x"}]',
    ]
)  # fmt: skip
TEXT = st.one_of(NASTY, st.text(max_size=12))
FILLED = TEXT.filter(bool)
NAMES = st.sampled_from(["mira", "jo,an", "labeler 3", "ü"])
SOURCES = st.sampled_from(["human", "simulated", "constitution", "served", "import:hh"])


@st.composite
def prompts(draw: st.DrawFn, roles: tuple[str, ...] = ("system", "user", "assistant")) -> Prompt:
    turns = [Message(role, draw(TEXT)) for role in draw(st.lists(st.sampled_from(roles), max_size=2))]
    return Prompt((*turns, Message("user", draw(FILLED))))


@st.composite
def pairs(draw: st.DrawFn, prompt: st.SearchStrategy[Prompt]) -> Comparison:
    """A pair of two different texts, by any number of labelers, soft, hard or tied."""
    asked = draw(prompt)
    chosen, rejected = draw(st.lists(TEXT, min_size=2, max_size=2, unique=True))
    made = [Completion(text, id=digest(asked.id, text)) for text in (chosen, rejected)]
    labelers = tuple(draw(st.lists(NAMES, max_size=3)))
    p_chosen = draw(st.sampled_from([0.5, 1.0, 0.8, 0.1 + 0.7]))
    return Comparison(asked, made[0], made[1], p_chosen, draw(SOURCES), labelers)


def as_pairs(feedback: Feedback) -> Counter[tuple]:
    """Rankings of two and comparisons in one shape, counted."""
    text = {(p, c.id): c.text for p, group in feedback.completions.items() for c in group}
    found: list[tuple] = []
    for r in feedback.rankings:
        ids = [id for tier in r.tiers for id in tier]
        sides = [text[r.prompt_id, id] for id in ids]
        found.append(
            (feedback.prompts[r.prompt_id], *sides, 0.5 if len(r.tiers) == 1 else 1.0, r.source, (r.labeler,))
        )
    for c in feedback.comparisons:
        found.append((c.prompt, c.chosen.text, c.rejected.text, c.p_chosen, c.source, c.labelers))
    return Counter(found)


def expected_pairs(made: list[Comparison]) -> Counter[tuple]:
    return Counter((c.prompt, c.chosen.text, c.rejected.text, c.p_chosen, c.source, c.labelers) for c in made)


EMPTY = Feedback({}, {})


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("format", ["trl-preference", "trl-implicit", "openrlhf"])
@FILES
@given(made=st.lists(pairs(prompts()), min_size=1, max_size=4))
def test_pairs_come_back_equal(format: str, suffix: str, made: list[Comparison]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pairs.{suffix}"
        written = write_feedback(path, format, EMPTY, comparisons=made, ties="keep")
        assert written.rows == len(made)
        assert not written.left_out
        back = read_feedback(path)
    assert back.format == format
    assert as_pairs(back) == expected_pairs(made)


@FILES
@given(made=st.lists(pairs(prompts(("user", "assistant"))), min_size=1, max_size=4))
def test_hh_pairs_come_back_to_the_letter_or_are_counted(made: list[Comparison]) -> None:
    made = [pair for pair in made if pair.prompt.messages[0].role == "user"]
    if not made:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write_feedback(path, "hh", EMPTY, comparisons=made, ties="keep")
        assert as_pairs(read_feedback(path)) == expected_pairs(made)


@pytest.mark.parametrize("content", ["x\n\nHuman: y", "x\n\nAssistant: y"])
def test_hh_refuses_what_it_would_misread(tmp_path: Path, content: str) -> None:
    prompt = Prompt((Message("user", content),))
    bad = Comparison(prompt, Completion("a", id="1"), Completion("b", id="2"))
    good = replace(bad, prompt=Prompt.from_text("x"))
    with pytest.raises(DataError, match="turn's name inside a message"):
        write_feedback(tmp_path / "x.jsonl", "hh", EMPTY, comparisons=[bad, good])
    written = write_feedback(tmp_path / "x.jsonl", "hh", EMPTY, comparisons=[bad, good], on_error="skip")
    assert (written.rows, dict(written.left_out)) == (1, {"a text that the format cannot carry": 1})
    shared = replace(good, chosen=Completion(f"{content}1"), rejected=Completion(f"{content}2"))
    if "Assistant" in content:
        with pytest.raises(DataError, match="begin alike past another"):
            write_feedback(tmp_path / "y.jsonl", "hh", EMPTY, comparisons=[shared])


def test_hh_refuses_a_system_message(tmp_path: Path) -> None:
    prompt = Prompt((Message("system", "s"), Message("user", "u")))
    pair = Comparison(prompt, Completion("a", id="1"), Completion("b", id="2"))
    with pytest.raises(DataError, match="not system"):
        write_feedback(tmp_path / "x.jsonl", "hh", EMPTY, comparisons=[pair])


@st.composite
def judged(draw: st.DrawFn, whole: bool = False) -> Feedback:
    """Rankings and thumbs of a few prompts; ``whole`` fills every field of every record."""
    floats = st.floats(-50, 0, allow_nan=False)
    found, completions, rankings, thumbs = {}, {}, [], []
    for prompt in draw(st.lists(prompts(), min_size=1, max_size=3, unique_by=lambda p: p.id)):
        if whole:
            meta = {draw(TEXT): [1, 0.1, None, draw(TEXT)]}
            prompt = replace(prompt, meta=meta, id=draw(st.sampled_from(["", "own "])) + prompt.id)
        group = []
        for n, text in enumerate(draw(st.lists(TEXT, min_size=2, max_size=4))):
            made = Completion(text, id=f"{prompt.id}/{n}")
            if whole:
                ids = tuple(draw(st.lists(st.integers(0, 1 << 31), max_size=3)))
                logprobs = tuple(draw(st.lists(floats, min_size=len(ids), max_size=len(ids))))
                sampling = {"temperature": draw(floats), "top_k": None}
                origin = Origin(
                    "m", "h", draw(st.none() | TEXT), draw(TEXT), ids, sampling, draw(st.integers())
                )
                stop = draw(st.sampled_from(Stop))
                made = Completion(text, ids, logprobs, stop, draw(st.none() | st.just(origin)), made.id)
            group.append(made)
        found[prompt.id], completions[prompt.id] = prompt, group
        for n in range(draw(st.integers(1, 2))):
            rankings.append(draw(ranking_of(prompt.id, [c.id for c in group], n)))
        up, who = draw(st.booleans()), draw(NAMES)
        thumbs.append(
            Thumb(prompt.id, group[0].id, who, up, draw(SOURCES), draw(st.none() | TEXT), draw(TEXT))
        )
    return Feedback(found, completions, rankings, thumbs)


@st.composite
def ranking_of(draw: st.DrawFn, prompt_id: str, ids: list[str], number: int) -> Ranking:
    order = draw(st.permutations(ids))
    tiers: dict[int, list[str]] = {}
    for id in order:
        tiers.setdefault(draw(st.integers(0, 3)), []).append(id)
    fails = tuple(tiers.pop(3, ()))
    return Ranking(
        prompt_id,
        draw(NAMES),
        tuple(tuple(tiers[place]) for place in sorted(tiers)),
        fails,
        tuple(draw(st.sampled_from([(), draw(st.permutations(ids))]))),
        criterion=draw(TEXT),
        guidelines=draw(TEXT),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        note=draw(TEXT),
        source=draw(SOURCES),
        supersedes=draw(st.none() | st.just("an older one")),
        id=f"{prompt_id}#{number}",
    )


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@FILES
@given(feedback=judged())
def test_rankings_come_back_equal(suffix: str, feedback: Feedback) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rankings.{suffix}"
        write_feedback(path, "rankings", feedback)
        back = read_feedback(path)
    assert back.rankings == feedback.rankings
    assert back.prompts == feedback.prompts
    assert back.completions == feedback.completions


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@FILES
@given(feedback=judged())
def test_thumbs_and_fails_come_back(suffix: str, feedback: Feedback) -> None:
    texts = {c.id: c.text for group in feedback.completions.values() for c in group}
    thumbs = [replace(t, supersedes=None) for t in feedback.thumbs]
    feedback = replace(feedback, thumbs=thumbs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"unpaired.{suffix}"
        write_feedback(path, "trl-unpaired", feedback)
        back = read_feedback(path)
    found = {c.id: c.text for group in back.completions.values() for c in group}
    expected = [(t.prompt_id, texts[t.completion_id], t.up, t.labeler, t.source) for t in thumbs]
    expected += [
        (r.prompt_id, texts[id], False, r.labeler, r.source) for r in feedback.rankings for id in r.fails
    ]
    assert [(t.prompt_id, found[t.completion_id], t.up, t.labeler, t.source) for t in back.thumbs] == expected


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@FILES
@given(feedback=judged(whole=True), p_chosen=st.floats(0.5, 1.0))
def test_events_come_back_exactly(suffix: str, feedback: Feedback, p_chosen: float) -> None:
    prompt = next(iter(feedback.prompts.values()))
    first, second = feedback.completions[prompt.id][:2]
    pair = Comparison(prompt, first, second, p_chosen, "human", ("mira", "jo"))
    feedback = replace(feedback, comparisons=[pair])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"log.{suffix}"
        written = write_feedback(path, "events", feedback)
        back = read_feedback(path)
        again = Path(folder) / f"again.{suffix}"
        write_feedback(again, "events", back)
        assert again.read_bytes() == path.read_bytes()
    assert written.rows == back.rows
    assert list(back.prompts.values()) == list(feedback.prompts.values())
    assert [p.meta for p in back.prompts.values()] == [p.meta for p in feedback.prompts.values()]
    for part in ("completions", "rankings", "thumbs", "comparisons"):
        assert getattr(back, part) == getattr(feedback, part), part


ONE = Prompt.from_text("Hi")
GROUP = [Completion(text, id=text) for text in "abcd"]


def small(*rankings: Ranking, thumbs: tuple[Thumb, ...] = ()) -> Feedback:
    return Feedback({ONE.id: ONE}, {ONE.id: GROUP}, list(rankings), list(thumbs))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_ranking_becomes_the_pairs_it_decides(tmp_path: Path) -> None:
    """a and b tie above c; d failed: a>c b>c a>d b>d c>d, and the tie a=b only if kept."""
    ranking = Ranking(ONE.id, "mira", (("a", "b"), ("c",)), ("d",))
    written = write_feedback(tmp_path / "x.jsonl", "trl-preference", small(ranking))
    rows = rows_of(tmp_path / "x.jsonl")
    assert {(r["chosen"], r["rejected"]) for r in rows} == {tuple(p) for p in ("ac", "bc", "ad", "bd", "cd")}
    assert written.left_out == {"ties": 1}
    extras = {key: rows[0][key] for key in ("prompt_id", "p_chosen", "n_labelers", "labelers", "source")}
    assert extras == {
        "prompt_id": ONE.id, "p_chosen": 1.0, "n_labelers": 1, "labelers": ["mira"], "source": "human"
    }  # fmt: skip
    write_feedback(tmp_path / "y.jsonl", "trl-preference", small(ranking), ties="keep")
    kept = rows_of(tmp_path / "y.jsonl")
    assert [(r["chosen"], r["rejected"]) for r in kept if r["p_chosen"] == 0.5] == [("a", "b")]


def test_fails_have_no_order_among_themselves(tmp_path: Path) -> None:
    write_feedback(
        tmp_path / "x.jsonl",
        "trl-preference",
        small(Ranking(ONE.id, "m", (("a",),), ("c", "d"))),
        ties="keep",
    )
    assert {(r["chosen"], r["rejected"]) for r in rows_of(tmp_path / "x.jsonl")} == {("a", "c"), ("a", "d")}


def test_unpaired_never_calls_a_winner_good(tmp_path: Path) -> None:
    """Of a > b with c FAIL and a thumb up for d, only c (bad) and d (good) are labelled."""
    feedback = small(Ranking(ONE.id, "m", (("a",), ("b",)), ("c",)), thumbs=(Thumb(ONE.id, "d", "m", True),))
    write_feedback(tmp_path / "x.jsonl", "trl-unpaired", feedback)
    assert {(r["completion"], r["label"]) for r in rows_of(tmp_path / "x.jsonl")} == {
        ("c", False),
        ("d", True),
    }
    with pytest.raises(DataError, match="nothing to write"):
        write_feedback(tmp_path / "y.jsonl", "trl-unpaired", small(Ranking(ONE.id, "m", (("a",), ("b",)))))
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_correction_replaces_what_it_corrects_but_events_keep_both(tmp_path: Path) -> None:
    wrong = Ranking(ONE.id, "m", (("b",), ("a",)), id="1")
    right = Ranking(ONE.id, "m", (("a",), ("b",)), id="2", supersedes="1")
    written = write_feedback(tmp_path / "x.jsonl", "trl-preference", small(wrong, right))
    assert [(r["chosen"], r["rejected"]) for r in rows_of(tmp_path / "x.jsonl")] == [("a", "b")]
    assert written.left_out == {"superseded by a correction": 1}
    write_feedback(tmp_path / "log.jsonl", "events", small(wrong, right))
    assert read_feedback(tmp_path / "log.jsonl").rankings == [wrong, right]


def test_conversations_make_the_whole_column_messages(tmp_path: Path) -> None:
    many = Prompt((Message("system", "s"), Message("user", "u")))
    made = [Comparison(p, Completion("a", id="1"), Completion("b", id="2")) for p in (ONE, many)]
    write_feedback(tmp_path / "x.jsonl", "trl-preference", EMPTY, comparisons=made)
    rows = rows_of(tmp_path / "x.jsonl")
    assert rows[0]["prompt"] == [{"role": "user", "content": "Hi"}]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "a"}]


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("mine")
    feedback = small(Ranking(ONE.id, "m", (("a",), ("b",))))
    with pytest.raises(DataError, match="exists"):
        write_feedback(path, "rankings", feedback)
    assert path.read_text() == "mine"
    write_feedback(path, "rankings", feedback, overwrite=True)
    assert read_feedback(path).rankings == feedback.rankings


def test_a_failed_export_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(b"mine")
    broken = [
        small(Ranking(ONE.id, "m", (("a",), ("gone",)))),
        Feedback({ONE.id: replace(ONE, meta={"x": object()})}, {ONE.id: GROUP}),
        Feedback({ONE.id: ONE}, {ONE.id: [replace(GROUP[0], ids=(1,), logprobs=(float("nan"),))]}),
        Feedback({ONE.id: ONE}, {ONE.id: [Completion("no id")]}),
    ]
    for feedback in broken:
        with pytest.raises(DataError):
            write_feedback(path, "events", feedback, overwrite=True)
    with pytest.raises(DataError, match="'gone'"):
        write_feedback(path, "trl-preference", broken[0], overwrite=True)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_targets_are_refused(tmp_path: Path) -> None:
    feedback = small(Ranking(ONE.id, "m", (("a",), ("b",))))
    with pytest.raises(ConfigError, match="unknown format 'trl'"):
        write_feedback(tmp_path / "x.jsonl", "trl", feedback)
    with pytest.raises(DataError, match="unknown suffix"):
        write_feedback(tmp_path / "x.txt", "rankings", feedback)
    with pytest.raises(DataError, match="an event log is JSON lines"):
        write_feedback(tmp_path / "x.csv", "events", feedback)


EVENT = {"kind": "thumb", "version": 1, "prompt_id": "p", "completion_id": "c", "labeler": "m", "up": True}
EVENT |= {"source": "human", "supersedes": None, "id": ""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "event version 2"),
        ({"kind": "vote"}, "event kind 'vote'"),
        ({"colour": "red"}, r"unknown \['colour'\]"),
        ({"up": ...}, r"lacks \['up'\]"),
        ({}, "completion 'c' of prompt 'p' is in no earlier line"),
        ({"kind": "ranking"}, "a ranking event that does not fit"),
    ],
)
def test_an_event_that_does_not_fit_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    event = {key: value for key, value in (EVENT | change).items() if value is not ...}
    (tmp_path / "log.jsonl").write_text(json.dumps(event) + "\n")
    with pytest.raises(DataError, match=message):
        read_feedback(tmp_path / "log.jsonl", "events")


def test_csv_is_readable_by_others(tmp_path: Path) -> None:
    pair = Comparison(Prompt.from_text('a,"b"\nc'), Completion("x", id="1"), Completion("", id="2"))
    write_feedback(tmp_path / "x.csv", "trl-preference", EMPTY, comparisons=[pair])
    with (tmp_path / "x.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["prompt"], row["chosen"], row["rejected"]) == ('a,"b"\nc', "x", "")


def test_the_same_feedback_gives_the_same_bytes(tmp_path: Path) -> None:
    feedback = small(Ranking(ONE.id, "m", (("a",), ("b",))))
    for name in ("x.jsonl.gz", "y.jsonl.gz"):
        write_feedback(tmp_path / name, "rankings", feedback)
    assert (tmp_path / "x.jsonl.gz").read_bytes() == (tmp_path / "y.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "x.jsonl.gz").read_bytes())
