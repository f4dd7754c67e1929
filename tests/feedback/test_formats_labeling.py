"""What the labelling app adds to judgements survives the event log, and older logs are read as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.errors import DataError
from accord.feedback.consensus import AgreeConfig
from accord.feedback.formats.gather import Feedback
from accord.feedback.formats.read import read_feedback
from accord.feedback.formats.write import write_feedback
from accord.judgements import Ranking, Remark
from accord.recipes.judgements import agree, export_feedback, import_feedback
from accord.types import Completion, Prompt
from accord.workspace import Workspace

P = Prompt.from_text("a question")
A, B = Completion("one", id="a"), Completion("two", id="b")
ASKED = Ranking(
    P.id, "ann", (("a",), ("b",)), (), ("b", "a"), "kind", protocol="pair", strength=0.5, arm="active",
    assignment="task", id="r1",
)  # fmt: skip
AGAIN = Ranking(P.id, "ann", (("b",), ("a",)), (), ("a", "b"), "kind", arm="repeat", id="r2")
PLAIN = Ranking(P.id, "bob", (("a",), ("b",)), criterion="kind", id="r3")
REMARKS = [
    Remark(P.id, "ann", "flag", "private", "an address", "a", id="m1"),
    Remark(P.id, "bob", "skip", "unclear", id="m2"),
]
GIVEN = Feedback({P.id: P}, {P.id: [A, B]}, [ASKED, AGAIN, PLAIN], remarks=REMARKS)


def test_the_event_log_keeps_why_and_how_it_was_asked(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    write_feedback(file, "events", GIVEN)
    back = read_feedback(file)
    assert back.rankings == GIVEN.rankings
    assert back.remarks == REMARKS
    assert "2 remarks" in back.describe()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    plain = next(line for line in lines if line.get("id") == "r3")
    assert not {"protocol", "strength", "arm", "assignment"} & plain.keys(), "an older accord reads this line"


@pytest.mark.parametrize(
    ("remark", "match"),
    [
        (Remark("gone", "ann", "skip", "x"), "names the prompt 'gone'"),
        (Remark(P.id, "ann", "flag", "x", "", "gone"), "names the completion 'gone'"),
    ],
)
def test_a_remark_on_something_unknown_is_refused(tmp_path: Path, remark: Remark, match: str) -> None:
    with pytest.raises(DataError, match=match):
        write_feedback(tmp_path / "a.jsonl", "events", Feedback({P.id: P}, {P.id: [A, B]}, remarks=[remark]))


def test_a_workspace_takes_the_log_whole(tmp_path: Path) -> None:
    write_feedback(tmp_path / "log.jsonl", "events", GIVEN)
    first = Workspace.create(tmp_path / "first")
    import_feedback(first, str(tmp_path / "log.jsonl"))
    export_feedback(first, str(tmp_path / "out.jsonl"), "events")
    out, given = read_feedback(tmp_path / "out.jsonl"), read_feedback(tmp_path / "log.jsonl")
    for part in ("prompts", "completions", "rankings", "thumbs", "remarks"):
        assert getattr(out, part) == getattr(given, part), part
    second = Workspace.create(tmp_path / "second")
    second.store.add_events(first.store.events())
    assert list(second.store.rankings()) == GIVEN.rankings
    assert list(second.store.remarks()) == REMARKS
    assert second.store.verify() == []


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_rankings_keep_what_is_a_repeat_and_what_an_adjudication(tmp_path: Path, suffix: str) -> None:
    first = Workspace.create(tmp_path / "first")
    first.store.add_groups([(P, [A, B])])
    final = Ranking(P.id, "rita", (("a", "b"),), (), ("a", "b"), "kind", arm="adjudicated", id="r4")
    first.store.add_rankings([ASKED, AGAIN, PLAIN, final])
    before, judged = agree(first, AgreeConfig())
    file = str(tmp_path / f"rankings.{suffix}")
    export_feedback(first, file, "rankings")
    second = Workspace.create(tmp_path / "second")
    import_feedback(second, file)
    assert list(second.store.rankings()) == [ASKED, AGAIN, PLAIN, final]
    after, judged_again = agree(second, AgreeConfig())
    assert (after.metrics["rankings"], after.metrics["repeats"]) == (3, 1)
    assert after.metrics["alpha"] == before.metrics["alpha"]
    assert judged_again.comparisons == judged.comparisons
    import_feedback(first, file)
    assert len(list(first.store.rankings())) == 4, "what is stored already is not stored again"


def test_a_strength_that_is_no_number_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "q", "completions": ["a", "b"], "tiers": [[0], [1]], "strength": "much"}
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="column 'strength' is 'much', not a number"):
        read_feedback(tmp_path / "r.jsonl")


def test_a_repeat_counts_once_in_pairs_and_consensus(tmp_path: Path) -> None:
    written = write_feedback(tmp_path / "pairs.jsonl", "trl-preference", GIVEN)
    assert written.rows == 2
    assert written.left_out == {"repeats of a labeler's own ranking": 1}
    workspace = Workspace.create(tmp_path / "w")
    workspace.store.add_groups([(P, [A, B])])
    workspace.store.add_rankings([ASKED, PLAIN])
    _, before = agree(workspace, AgreeConfig())
    workspace.store.add_rankings([AGAIN])
    run, after = agree(workspace, AgreeConfig())
    assert after.comparisons == before.comparisons
    assert run.metrics["repeats"] == 1
    assert after.agreement == before.agreement
    ann, bob = after.labelers
    assert ann.rankings == 1
    assert (ann.repeats.exact.interval.value, ann.repeats.exact.interval.n) == (0.0, 1), (
        "she said the reverse"
    )
    assert bob.repeats.exact.interval is None
    assert run.metrics["rankings"] == 2
