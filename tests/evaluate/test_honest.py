"""The honest paragraph: it claims what holds, and says aloud what does not."""

from dataclasses import replace

from accord.evaluate.contamination import Overlap
from accord.evaluate.honest import paragraph, unproven
from boards import board


def changed(section, figure: str, values: dict) -> tuple:
    """The section's pairs, that of the first and third model on ``figure`` with other values."""
    at = (0, 2, figure)
    return tuple(replace(p, **values) if (p.first, p.second, p.figure) == at else p for p in section.pairs)


def test_a_lead_that_holds_is_claimed_with_its_interval() -> None:
    told = " ".join(paragraph(board()))
    assert "m0, m1 and m2 answered the same 60 prompts of care" in told
    assert "score is highest for m2" in told
    assert "m2 is measurably better than" in told
    assert "95%" in told


def test_equals_are_not_told_apart_and_what_could_have_been_seen_is_said() -> None:
    found = board(means=(0.0, 0.0))
    assert "The data do not tell the two apart." in " ".join(paragraph(found))
    assert "measurably better" not in " ".join(paragraph(found))
    told = " ".join(unproven(found))
    assert "That m0 and m1 are equal on care: by a test of its own, so many prompts find a" in told


def test_one_model_alone_has_its_figure_and_interval_and_no_others_beside_it() -> None:
    found = board(means=(0.0,))
    told = " ".join(paragraph(found))
    cell = found.sections[0].row("score").cells[0]
    assert told.startswith("m0 answered 60 prompts of care")
    assert f"score is {cell.value:.3f} ({cell.low:.3f} to {cell.high:.3f}".replace("-", "−") in told
    assert "every model" not in told
    assert "same" not in told


def test_what_a_model_could_not_read_is_said() -> None:
    found = board(means=(0.0, 0.0))
    short = replace(found, sections=(replace(found.sections[0], unread=(0, 7)),))
    said = "7 of the 60 prompts of care are longer than the context of m1, and count as not answered."
    assert said in paragraph(short)
    assert not any("longer than" in one for one in paragraph(found))


def test_a_lead_over_some_only_says_over_whom() -> None:
    told = " ".join(paragraph(board(means=(-1.0, 0.95, 1.0))))
    assert "measurably better than m0" in told
    assert "it cannot be told apart" in told


def test_doubt_about_what_was_trained_on_is_said() -> None:
    found = board()
    section = found.sections[0]
    ids = tuple(str(i) for i in range(30))
    doubted = replace(found, sections=(replace(section, overlap=Overlap(60, 0, 9, 13, ids[:3], ids)),))
    unknown = replace(found, sections=(replace(section, overlap=None),))
    assert "30 of its 60 prompts share a run of 13 words" in " ".join(unproven(doubted))
    assert "no training text was given" in " ".join(unproven(unknown))
    told = " ".join(unproven(found))  # one of sixty, looked for and rare
    assert "That care was not trained on outside of the 1 text looked through." in told


def test_what_was_looked_through_is_said_and_what_was_not() -> None:
    found = board()
    own = Overlap(40, 20, 9, 13, (), (), given=False)
    told = " ".join(unproven(replace(found, sections=(replace(found.sections[0], overlap=own),))))
    assert "the 9 texts looked through, all of them prompts of alignment here" in told
    assert "20 prompts were too short to be looked for." in told


def test_a_lead_that_length_may_explain_is_doubted() -> None:
    found = board()
    section = found.sections[0]
    told_of = {"win_low": 0.6, "equal_length": 0.52, "equal_low": 0.4, "equal_high": 0.6}
    pairs = changed(section, "score", told_of)
    told = " ".join(unproven(replace(found, sections=(replace(section, pairs=pairs),))))
    assert "That m2 beats m0 on care by more than length: at equal length it wins 52%" in told


def test_what_the_leader_loses_is_said() -> None:
    found = board()
    section = found.sections[0]
    pairs = changed(section, "high", {"claimed": True, "difference": -0.3, "low": -0.4, "high": -0.2})
    told = " ".join(unproven(replace(found, sections=(replace(section, pairs=pairs),))))
    assert "That m2 is better all round on care: its high is worse than m0's by −30.0 points" in told
