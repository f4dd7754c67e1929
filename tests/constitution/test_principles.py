import json
from collections import Counter

import pytest

from accord.constitution.principles import DEFAULT, Constitution, Principle, draw, joined, read
from accord.errors import ConfigError, DataError
from realdata import real_file

SMALL = """
name = "shop"
version = "3"
[[principle]]
name = "kind"
critique = "Say where it is rude."
revision = "Write it again, kindly."
[[principle.example]]
prompt = "Hi"
response = "Go away."
critique = "Rude."
revision = "Hello!"
[[principle]]
name = "short"
choose = "Choose the shorter."
weight = 2.5
"""


def file(tmp_path, text, name="c.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_is_read_whole_and_its_hash_is_of_all_it_says(tmp_path):
    found = read(file(tmp_path, SMALL))
    assert (found.name, found.version) == ("shop", "3")
    assert [p.name for p in found.critics] == ["kind"]
    assert [p.name for p in found.choosers] == ["short"]
    assert found.principle[0].example[0].revision == "Hello!"
    assert found.named("short").weight == 2.5
    assert read(file(tmp_path, SMALL, "copy.toml")).hash == found.hash
    for old, new in (("kindly", "gently"), ("2.5", "2.4"), ('"3"', '"4"'), ("Hello!", "Hello.")):
        assert read(file(tmp_path, SMALL.replace(old, new))).hash != found.hash, old


def test_accord_has_a_constitution_of_its_own_that_serves_both_phases():
    found = read()
    assert found == read(DEFAULT)
    assert len(found.critics) == len(found.choosers) == len(found.principle) >= 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL.replace('critique = "Say where it is rude."\n', ""), "kind.*revision request and no critique"),
        (SMALL.replace('name = "short"', 'name = "kind"'), "'kind'"),
        (SMALL.replace("2.5", "0"), "weight"),
        (SMALL.replace("weight", "wieght"), "did you mean 'weight'"),
        (SMALL.replace('name = "kind"', 'name = " "'), "no name"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        read(file(tmp_path, text))


def test_what_cannot_be_read_is_said_with_its_place(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.toml")
    with pytest.raises(DataError, match=r"cannot be read.*line 2"):
        read(file(tmp_path, 'name = "a"\nversion = oh\n'))
    with pytest.raises(DataError, match="line 2: not JSON"):
        read(file(tmp_path, '{"id": "a", "instruction": "Choose."}\n{oh\n', "c.jsonl"))
    with pytest.raises(DataError, match=r"line 1: has .'id'.*wanted critique_request"):
        read(file(tmp_path, '{"id": "a"}\n', "c.jsonl"))
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (4 * 2**20 + 1))
    with pytest.raises(DataError, match="4 at most"):
        read(large)


def test_the_published_principles_are_read_and_joined():
    critics = read(real_file("constitutional/critique_revision_principles"))
    choosers = read(real_file("constitutional/preference_principles"))
    both = joined("paper", [critics, choosers])
    assert (len(both.critics), len(both.choosers)) == (16, 16)
    assert all(p.critique and p.revision for p in both.critics)


def test_published_rows_become_principles(tmp_path):
    rows = [{"id": "a", "critique_request": "Say so.", "revision_request": "Mend it.", "raw": "x"},
            {"instruction": "Choose the better."}]  # fmt: skip
    found = read(file(tmp_path, "\n".join(map(json.dumps, rows)), "own.jsonl"))
    assert found.principle == (
        Principle(name="a", critique="Say so.", revision="Mend it."),
        Principle(name="principle 2", choose="Choose the better."),
    )


def three(*weights):
    return [Principle(name=str(i), choose="Choose well.", weight=w) for i, w in enumerate(weights)]


def test_principles_are_drawn_by_weight_from_the_key_alone():
    rules = three(1.0, 2.0, 5.0)
    drawn = Counter(draw(rules, f"key {i}")[0].name for i in range(4000))
    assert all(abs(drawn[str(i)] / 4000 - share) < 0.03 for i, share in enumerate((1 / 8, 2 / 8, 5 / 8)))
    assert draw(rules, "a", 3) == draw(rules, "a", 3)


def test_rounds_draw_every_principle_before_one_comes_again():
    rules = three(1.0, 1.0, 100.0)
    for i in range(50):
        drawn = [p.name for p in draw(rules, f"key {i}", 7)]
        assert sorted(drawn[:3]) == sorted(drawn[3:6]) == ["0", "1", "2"]
    with pytest.raises(DataError, match="no principle"):
        draw([], "key")


def test_a_missing_name_lists_those_there_are():
    with pytest.raises(ConfigError, match="there are 0, 1"):
        Constitution(name="c", principle=tuple(three(1.0, 1.0))).named("2")
