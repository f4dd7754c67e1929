"""What a reward model is trained on: completions once, prompts on one side, nothing lost in silence."""

import pytest

from accord.errors import ConfigError, DataError
from accord.judgements import Anchor, Comparison
from accord.lm.grouped import Mark, OverLong, Pair, split_by_prompt
from accord.reward.data import gather
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt

PROMPT = Prompt.from_text("p")


def test_a_completion_is_encoded_once_and_known_by_its_id_or_text(base):
    a, b, twin = Completion("same", id="1"), Completion("other"), Completion("same", id="2")
    pairs = [
        Comparison(PROMPT, a, b),
        Comparison(PROMPT, Completion("other"), twin, 0.75),
        Comparison(PROMPT, b, b),
    ]
    (group,), lost = gather(pairs, base())
    assert [c.text for c in group.completions] == ["same", "other", "same"]
    assert group.pairs == [Pair(0, 1, 1.0), Pair(1, 2, 0.75)]  # a pair of one with itself says nothing
    assert (lost.inputs, lost.pairs, lost.anchors) == (0, 0, 0)


def test_anchors_join_the_completions_of_their_prompt(base):
    a, b, c = (Completion(x, id=x) for x in "abc")
    other = Prompt.from_text("q")
    anchors = [Anchor(PROMPT, b, 0.25), Anchor(PROMPT, c, 1.0, weight=2.0), Anchor(other, a, 0.0)]
    groups, _ = gather([Comparison(PROMPT, a, b)], base(), anchors=anchors)
    assert [x.text for x in groups[0].completions] == ["a", "b", "c"]
    assert groups[0].marks == [Mark(1, 0.25), Mark(2, 1.0, 2.0)]
    assert (groups[1].prompt, groups[1].pairs, groups[1].marks) == (other, [], [Mark(0, 0.0)])


def test_sources_weigh_what_they_are_given_and_one_that_is_not_there_is_named(base):
    a, b, c = (Completion(x) for x in "abc")
    pairs = [Comparison(PROMPT, a, b, source="x"), Comparison(PROMPT, a, c, source="y")]
    anchors = [Anchor(PROMPT, a, 1.0, weight=3.0, source="thumbs")]
    weights = {"x": 0.5, "thumbs": 0.1}
    (group,), _ = gather(pairs, base(), anchors=anchors, source_weights=weights)
    assert [pair.weight for pair in group.pairs] == [0.5, 1.0]
    assert group.marks[0].weight == pytest.approx(0.3)
    with pytest.raises(ConfigError, match=r"'thums'.*thumbs, x, y"):
        gather(pairs, base(), anchors=anchors, source_weights={"thums": 1.0})


# -- too long ----------------------------------------------------------------------------------


def long_and_short(planted):
    """Six prompts that fit 64 tokens, and one with a long completion and two short ones."""
    prompt, long = Prompt.from_text("w"), Completion("x" * 200, id="long")
    a, b = Completion("zap"), Completion("ba")
    pairs = [Comparison(prompt, long, a), Comparison(prompt, b, long), Comparison(prompt, a, b)]
    return [*planted(prompts=6, most=1), *pairs], [Anchor(prompt, long, 0.0), Anchor(prompt, a, 1.0)]


def test_what_is_cut_is_counted_and_kept(base, planted):
    pairs, anchors = long_and_short(planted)
    groups, lost = gather(pairs, base(max_length=64), anchors=anchors)
    assert (lost.rule, lost.inputs, lost.pairs, lost.anchors) == (OverLong.CUT, 1, 0, 0)
    assert (len(groups[-1].pairs), len(groups[-1].marks)) == (3, 2)
    assert len(groups[-1].inputs[0].ids) == 64
    assert groups[-1].inputs[0].cut == 1 + 1 + 200 + 1 - 64  # the frame's, the prompt's, and an end token


def test_what_is_left_out_takes_its_pairs_along_and_all_are_counted(base, planted):
    pairs, anchors = long_and_short(planted)
    groups, lost = gather(pairs, base(max_length=64), anchors=anchors, over_long=OverLong.LEAVE_OUT)
    assert (lost.inputs, lost.pairs, lost.anchors) == (1, 2, 1)
    assert [c.text for c in groups[-1].completions] == ["zap", "ba"]
    assert (groups[-1].pairs, groups[-1].marks) == ([Pair(0, 1, 1.0)], [Mark(0, 1.0)])


def test_refused_is_refused_by_name(base, planted):
    pairs, _ = long_and_short(planted)
    with pytest.raises(DataError, match=r"'long'.*139 tokens too long"):
        gather(pairs, base(max_length=64), over_long=OverLong.REFUSE)


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize(("rule", "pairs"), [("cut", 9), ("leave_out", 7)])
def test_the_report_counts_them(base, planted, kind, rule, pairs):
    comparisons, _ = long_and_short(planted)
    _, report = train(comparisons, base(kind, max_length=64), RewardConfig(over_long=rule))
    assert report.truncated == report.lost.inputs == 1
    assert report.lost.pairs == 9 - pairs
    assert report.pairs_train + report.pairs_holdout == pairs


# -- the split ---------------------------------------------------------------------------------


def test_no_prompt_stands_on_both_sides_of_the_split(base, planted):
    groups, _ = gather(planted(prompts=30), base())
    seen = []
    for seed in range(3):
        train_groups, held = split_by_prompt(groups, 0.2, seed)
        a, b = {g.prompt.id for g in train_groups}, {g.prompt.id for g in held}
        assert not a & b
        assert (len(a), len(b)) == (24, 6)
        assert split_by_prompt(groups[::-1], 0.2, seed)[1] == held  # the order of the rows does not matter
        seen.append(frozenset(b))
    assert len(set(seen)) == 3
    for share in (0.001, 0.999):
        assert all(split_by_prompt(groups, share, 0))
