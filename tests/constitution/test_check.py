import pytest

from accord.constitution.check import check
from accord.constitution.principles import Constitution, Principle, read
from accord.recipes.helpdesk.critic import CONSTITUTION
from realdata import real_file


def kinds(*principles):
    return [(f.kind, f.principles) for f in check(Constitution(name="c", principle=principles))]


def chooses(name, text):
    return Principle(name=name, choose=text)


def test_sound_constitutions_have_no_findings():
    assert check(read()) == []
    assert check(read(CONSTITUTION)) == []


def test_the_published_principles_have_no_findings():
    for part in ("critique_revision_principles", "preference_principles"):
        assert check(read(real_file(f"constitutional/{part}"))) == []


def test_gaps_are_found():
    assert kinds() == [("empty", ())]
    assert kinds(Principle(name="a")) == [("empty", ("a",))]
    assert kinds(chooses("a", "Be good.")) == [("short", ("a",))]


def test_the_same_asked_twice_is_found():
    one = chooses("a", "Choose the answer that treats customers with respect.")
    other = chooses("b", "Please choose the response that treats customers with respect.")
    assert kinds(one, other) == [("double", ("a", "b"))]
    assert kinds(one, chooses("b", "Choose the answer that keeps private matters private.")) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Choose the longer answer.", "Choose the shorter answer."),
        ("Choose the answer that is more detailed.", "Choose the answer that is less detailed."),
        ("Choose the answer that mentions the price.", "Choose the answer that never mentions the price."),
    ],
)
def test_contradictions_are_found_in_either_order(one, other):
    for first, second in ((one, other), (other, one)):
        found = check(Constitution(name="c", principle=(chooses("a", first), chooses("b", second))))
        assert [f.kind for f in found] == ["contradiction"]
        assert first in found[0].says
        assert second in found[0].says


def test_opposite_words_on_different_matters_are_no_contradiction():
    assert kinds(
        chooses("a", "Choose the answer that gives more reasons for its claims."),
        chooses("b", "Choose the answer that is less rude to customers."),
    ) == []  # fmt: skip
