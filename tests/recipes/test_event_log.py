"""One event log: what export and the labelling app write, import makes again, splits and all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.errors import DataError
from accord.feedback.app.api import lines
from accord.judgements import Ranking, Remark, Thumb
from accord.recipes.judgements import export_feedback, import_feedback
from accord.types import Completion, Origin, Prompt
from accord.workspace import Workspace

TRAIN, HELD = Prompt.from_text("May I?", meta={"order": 7}), Prompt.from_text("Where is it?")
ORIGIN = Origin("model", "0" * 16, None, "May I?", (1, 2), {"temperature": 1.0}, 3)
SOFT = {"prompt": "q", "chosen": "a", "rejected": "b", "p_chosen": 0.7}


@pytest.fixture
def first(tmp_path: Path) -> Workspace:
    """A workspace with facts of every kind."""
    workspace = Workspace.create(tmp_path / "first")
    store = workspace.store
    store.add_prompts([TRAIN], split="train")
    store.add_prompts([HELD], split="holdout")
    sampled = [Completion("Yes.", (5,), (-0.1,), origin=ORIGIN), Completion("No.")]
    (a, b), _ = store.add_groups([(TRAIN, sampled), (HELD, [Completion("Here.")])])
    version = store.add_guidelines("Be kind.")
    store.add_rankings(
        [Ranking(TRAIN.id, "ann", ((a,), (b,)), (), (b, a), "kind", version, 2.5, "hm", id="1")]
    )
    store.add_rankings(
        [Ranking(TRAIN.id, "ann", ((b,), (a,)), criterion="kind", supersedes="1", arm="random")]
    )
    store.add_thumbs([Thumb(TRAIN.id, a, "bob", True), Thumb(TRAIN.id, a, "bob", False)])
    store.add_remarks([Remark(TRAIN.id, "bob", "flag", "private", "an address", a)])
    for n in range(2):
        rows = [SOFT | {"chosen": f"a{n}{i}"} for i in range(3)]
        (tmp_path / "soft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        import_feedback(workspace, str(tmp_path / "soft.jsonl"))
    return workspace


@pytest.mark.parametrize("by", ["export", "app"])
def test_a_workspace_comes_back_whole(first: Workspace, tmp_path: Path, by: str) -> None:
    log = tmp_path / "log.jsonl"
    if by == "export":
        export_feedback(first, str(log), "events")
    else:
        log.write_bytes(b"".join(lines(first.store)))
    second = Workspace.create(tmp_path / "second")
    feedback = import_feedback(second, str(log))
    one, two = first.store, second.store
    assert (len(feedback.rankings), len(feedback.remarks), len(feedback.comparisons)) == (2, 1, 6)
    for split in (None, "train", "holdout"):
        assert two.prompts(split) == one.prompts(split), split
    assert two.prompts("holdout") == [HELD]
    assert [prompt.meta for prompt in two.prompts()] == [prompt.meta for prompt in one.prompts()]
    assert two.completions() == one.completions()
    assert list(two.rankings(current=False)) == list(one.rankings(current=False))
    assert list(two.thumbs(current=False)) == list(one.thumbs(current=False))
    assert list(two.remarks()) == list(one.remarks())
    assert two.guidelines(next(one.rankings(current=False)).guidelines) == "Be kind."
    runs = [run.id for run in two.runs("import")]
    assert [two.comparisons(id) for id in runs] == [one.comparisons(id) for id in ("import-1", "import-2")]
    own = ("comparisons", "guidelines")  # the numbers of its runs, and the page a workspace begins with
    facts = [[event for event in store.events() if event["event"] not in own] for store in (one, two)]
    assert facts[1] == facts[0], "times and seals too"
    assert two.verify() == []
    before = two.counts()
    import_feedback(second, str(log))
    assert two.counts() == before, "the same log twice is there once"


def test_logs_merge_though_both_have_an_import_run(first: Workspace, tmp_path: Path) -> None:
    second = Workspace.create(tmp_path / "second")
    (tmp_path / "mine.jsonl").write_text(json.dumps(SOFT))
    import_feedback(second, str(tmp_path / "mine.jsonl"))
    export_feedback(first, str(tmp_path / "log.jsonl"), "events")
    import_feedback(second, str(tmp_path / "log.jsonl"))
    assert [len(second.store.comparisons(run.id)) for run in second.store.runs("import")] == [1, 3, 3]
    assert second.store.verify() == []


def test_a_log_that_was_altered_or_is_asked_to_change_is_refused(first: Workspace, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    export_feedback(first, str(log), "events")
    second = Workspace.create(tmp_path / "second")
    before = second.store.counts()
    for asked in ({"split": "train"}, {"criterion": "kind"}):
        with pytest.raises(DataError, match="give no split and no criterion"):
            import_feedback(second, str(log), **asked)
    whole = log.read_text()
    for old, new, said in [
        ('"holdout"', '"train"', r"log.jsonl:\d+: splits event does not match its seal"),
        (
            '{"event": "splits"',
            '{"kind": "prompt", "version": 1}\n{"event": "splits"',
            "two kinds of event log",
        ),
    ]:
        log.write_text(whole.replace(old, new, 1))
        with pytest.raises(DataError, match=said):
            import_feedback(second, str(log))
    assert second.store.counts() == before
