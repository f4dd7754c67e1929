from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError
from accord.feedback.consensus import AgreeConfig, Consensus, _placed, _warnings, agree, single
from accord.judgements import Ranking
from accord.stats.agreement import pair_accuracy
from accord.stats.evidence import Choice
from accord.stats.fitting import fit
from accord.stats.rankings import ranking_table
from accord.types import Completion, Prompt
from pool import simulate
from realdata import real_data

FAST = AgreeConfig(bootstrap=100)


def _world(prompts: dict[str, str]) -> tuple[dict, dict]:
    """Prompts and completions by letters: {"p": "abc"} is a prompt p with completions a, b and c."""
    return (
        {p: Prompt.from_text(p, id=p) for p in prompts},
        {p: [Completion(f"text {c}", id=c) for c in names] for p, names in prompts.items()},
    )


def _rank(prompt: str, labeler: str, tiers: str, fails: str = "", **more) -> Ranking:
    """Tiers as text: "a bc" puts a first, then b and c as equals."""
    return Ranking(prompt, labeler, tuple(tuple(t) for t in tiers.split()), tuple(fails), **more)


def _told(consensus: Consensus) -> dict[tuple[str, str, str], float]:
    return {(c.prompt.id, c.chosen.id, c.rejected.id): c.p_chosen for c in consensus.comparisons}


def _values(consensus: Consensus) -> dict[str, dict[str, float]]:
    return {p: {c: s.value for c, s in group.items()} for p, group in consensus.scores.items()}


def test_all_pairs_once_with_the_preferred_first():
    prompts, completions = _world({"p": "dcba"})
    got = agree(prompts, completions, [_rank("p", k, "a b c d") for k in "xyz"], FAST)
    assert sorted((c.chosen.id, c.rejected.id) for c in got.comparisons) == list(combinations("abcd", 2))
    told = _told(got)
    assert all(p > 0.5 for p in told.values())
    assert told["p", "a", "d"] > told["p", "a", "c"] > told["p", "a", "b"]
    assert {c.source for c in got.comparisons} == {"consensus"}
    assert {c.labelers for c in got.comparisons} == {("x", "y", "z")}
    assert got.rankings["p"].tiers == (("a",), ("b",), ("c",), ("d",))
    assert got.dropped == {"margin": 0, "both_fail": 0, "unjudged": 0}


def test_ties_stay_soft_or_are_dropped_and_counted():
    prompts, completions = _world({"p": "ab", "q": "ab"})
    rankings = [_rank("p", k, "ab") for k in "xy"] + [_rank("q", k, "a b") for k in "xy"]
    soft = agree(prompts, completions, rankings, FAST)
    assert [c.p_chosen for c in soft.comparisons if c.prompt.id == "p"] == pytest.approx([0.5])
    assert soft.rankings["p"].tiers == (("a", "b"),)
    hard = agree(prompts, completions, rankings, AgreeConfig(margin=0.02, bootstrap=100))
    assert [c.prompt.id for c in hard.comparisons] == ["q"]
    assert hard.dropped["margin"] == 1


def test_fails_lose_and_have_no_order_among_themselves():
    prompts, completions = _world({"p": "abcd"})
    got = agree(prompts, completions, [_rank("p", k, "b a", fails="cd") for k in "xyz"], FAST)
    told = _told(got)
    assert {pair[1:] for pair in told} == {("b", "a"), ("b", "c"), ("b", "d"), ("a", "c"), ("a", "d")}
    assert got.dropped["both_fail"] == 1
    assert got.rankings["p"].tiers == (("b",), ("a",))
    assert set(got.rankings["p"].fails) == {"c", "d"}
    assert got.scores["p"]["c"].p_fail > 0.9 > 0.1 > got.scores["p"]["a"].p_fail
    assert got.scores["p"]["c"].value == pytest.approx(got.scores["p"]["d"].value)
    assert all(row.fail_share == 0.5 for row in got.labelers)


def test_one_fail_among_three_is_outvoted():
    prompts, completions = _world({"p": "abc"})
    rankings = [
        _rank("p", "x", "a", fails="bc"),
        _rank("p", "y", "a b", fails="c"),
        _rank("p", "z", "a b", fails="c"),
    ]
    got = agree(prompts, completions, rankings, FAST)
    assert got.rankings["p"].fails == ("c",)
    pair = next(c for c in got.comparisons if (c.chosen.id, c.rejected.id) == ("b", "c"))
    assert pair.labelers == ("y", "z")  # x marked both FAIL and so did not compare them


def test_not_ranked_gives_nothing():
    prompts, completions = _world({"p": "abc", "q": "ab"})
    rankings = [_rank("p", k, "a b", shown=tuple("abc")) for k in "xy"]
    got = agree(prompts, completions, rankings, FAST)
    assert set(_told(got)) == {("p", "a", "b")}
    assert got.dropped["unjudged"] == 2
    assert "c" not in got.scores["p"]
    assert any("1 of 2 prompts have no ranking" in w for w in got.warnings)


def test_pairs_nobody_compared_are_linked_and_counted():
    prompts, completions = _world({"p": "abc"})
    rankings = [_rank("p", k, "a b") for k in "xy"] + [_rank("p", k, "b c") for k in "uv"]
    got = agree(prompts, completions, rankings, FAST)
    linked = next(c for c in got.comparisons if {c.chosen.id, c.rejected.id} == {"a", "c"})
    assert (linked.chosen.id, linked.labelers) == ("a", ())
    assert got.inferred == 1


def test_corrections_supersede():
    prompts, completions = _world({"p": "ab"})
    rankings = [
        _rank("p", "x", "b a", id="1"),
        _rank("p", "x", "a b", id="2", supersedes="1"),
        _rank("p", "y", "a b", id="3"),
    ]
    got = agree(prompts, completions, rankings, FAST)
    assert _told(got)["p", "a", "b"] > 0.6
    assert got.superseded == 1
    assert got.agreement.exact.interval.value == 1


def test_one_labeler_is_taken_at_their_word():
    prompts, completions = _world({"p": "abc", "q": "ab"})
    rankings = [_rank("p", "x", "c a b"), _rank("q", "x", "ab")]
    got = agree(prompts, completions, rankings, FAST)
    assert got == single(prompts, completions, rankings, FAST)
    told = _told(got)
    assert min(told["p", "c", "a"], told["p", "a", "b"]) > 0.8
    assert told["p", "c", "b"] > 0.95
    assert [c.p_chosen for c in got.comparisons if c.prompt.id == "q"] == pytest.approx([0.5])
    assert got.labelers[0].reliability is None
    assert got.agreement.exact.interval is None
    assert any("no reliability was learned" in w for w in got.warnings)


def _borda(pool) -> dict[str, dict[str, float]]:
    """Borda counts: each completion's wins over all labelers alike."""
    wins: dict[str, dict[str, float]] = {p: dict.fromkeys(g, 0.0) for p, g in pool.gold.items()}
    for ranking in pool.rankings:
        order = [c for tier in ranking.tiers for c in tier]
        for place, completion in enumerate(order):
            wins[ranking.prompt_id][completion] += len(order) - place
    return wins


def _mean_labeler(pool, labelers: list[str]) -> float:
    shares = []
    for labeler in labelers:
        own: dict[str, dict[str, float]] = {}
        for r in pool.rankings:
            if r.labeler == labeler:
                own[r.prompt_id] = {c: -float(n) for n, tier in enumerate(r.tiers) for c in tier}
        shares.append(pair_accuracy(own, pool.gold, np.random.default_rng(0)).value)
    return float(np.mean(shares))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beats_the_majority_and_the_average_labeler(seed):
    """Three of seven labelers a prompt, one careless and one adversarial."""
    pool = simulate(
        np.random.default_rng(seed), [4.0, 3.0, 2.5, 2.0, 1.5, 0.0, -2.0], prompts=160, size=4, per_prompt=3
    )
    got = agree(pool.prompts, pool.completions, pool.rankings, FAST)
    rng = np.random.default_rng(0)
    ours = pair_accuracy(_values(got), pool.gold, rng).value
    majority_vote = pair_accuracy(_borda(pool), pool.gold, rng).value
    best_five = _mean_labeler(pool, [f"w{k}" for k in range(5)])
    everyone = _mean_labeler(pool, [f"w{k}" for k in range(7)])
    print(
        f"consensus {ours:.3f} majority {majority_vote:.3f} good labelers {best_five:.3f} all {everyone:.3f}"
    )
    assert ours > majority_vote + 0.02
    assert ours > everyone + 0.05
    assert ours > best_five
    rows = {row.labeler: row for row in got.labelers}
    assert rows["w6"].reliability.high < 0
    assert rows["w5"].reliability.high < 0.5
    assert rows["w0"].reliability.low > 1
    assert any("'w6' ranks against the others" in w for w in got.warnings)
    assert any("'w5' is little better than a coin" in w for w in got.warnings)
    assert not any("'w0'" in w for w in got.warnings)
    assert rows["w0"].agreement.value > rows["w4"].agreement.value > rows["w6"].agreement.value
    assert rows["w6"].agreement.high < 0.5


def test_habits_of_labelers():
    """x always takes the first shown, long takes the longer, tied ties."""
    prompts = {f"p{i}": Prompt.from_text(f"{i}", id=f"p{i}") for i in range(40)}
    completions = {p: [Completion("short", id="a"), Completion("a longer text", id="b")] for p in prompts}
    rng = np.random.default_rng(0)
    rankings = []
    for p in prompts:
        shown = tuple(rng.permutation(["a", "b"]).tolist())
        rankings.append(Ranking(p, "first", ((shown[0],), (shown[1],)), shown=shown))
        rankings.append(Ranking(p, "long", (("b",), ("a",)), shown=shown))
        rankings.append(Ranking(p, "tied", (("a", "b"),), shown=shown))
    rows = {row.labeler: row for row in agree(prompts, completions, rankings, FAST).labelers}
    assert (rows["first"].first_share, rows["first"].first_chance) == (1.0, 0.5)
    assert rows["tied"].first_share == 0.5
    assert rows["long"].length_correlation == 1.0
    assert rows["tied"].length_correlation is None
    assert rows["tied"].tie_share == 1.0
    assert rows["long"].tie_share == 0.0
    assert {(row.rankings, row.pairs, row.overlap) for row in rows.values()} == {(40, 40, 40)}


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000))
def test_order_and_names_change_nothing(seed):
    """Shuffled rankings, renamed labelers, prompts and completions: the same consensus."""
    rng = np.random.default_rng(seed)
    pool = simulate(rng, [2.0, 1.0, 1.5, -1.0], prompts=8, size=3, per_prompt=3)
    new = {
        kind: dict(zip(names, [f"{kind}{n}" for n in rng.permutation(len(names))], strict=True))
        for kind, names in (
            ("k", [f"w{k}" for k in range(4)]),
            ("q", list(pool.gold)),
            ("z", ["c0", "c1", "c2"]),
        )
    }
    renamed = [
        Ranking(
            new["q"][r.prompt_id],
            new["k"][r.labeler],
            tuple(tuple(new["z"][c] for c in tier) for tier in r.tiers),
            shown=tuple(new["z"][c] for c in r.shown),
        )
        for r in pool.rankings
    ]
    rng.shuffle(renamed)
    prompts = {new["q"][p]: Prompt.from_text("?", id=new["q"][p]) for p in pool.gold}
    completions = {
        new["q"][p]: [Completion(c.text, id=new["z"][c.id]) for c in rng.permutation(group)]
        for p, group in pool.completions.items()
    }
    one = agree(pool.prompts, pool.completions, pool.rankings, FAST)
    two = agree(prompts, completions, renamed, FAST)
    told = _told(two)
    for (p, chosen, rejected), value in _told(one).items():
        key = (new["q"][p], new["z"][chosen], new["z"][rejected])
        assert told.get(key, 1 - told.get((key[0], key[2], key[1]), 0)) == pytest.approx(value, abs=1e-3)
    reliability = {row.labeler: row.reliability.value for row in two.labelers}
    for row in one.labelers:
        assert reliability[new["k"][row.labeler]] == pytest.approx(row.reliability.value, abs=5e-3)
    for name in ("exact", "half", "alpha_ordinal", "alpha_nominal"):
        figures = [getattr(c.agreement, name).interval.value for c in (one, two)]
        assert figures[0] == pytest.approx(figures[1])


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([], "no rankings"),
        ([_rank("zzz", "x", "a b")], "not among the 1 prompts"),
        ([_rank("p", "x", "a q")], "'q'"),
        (
            [_rank("p", "x", "a b", criterion="helpful"), _rank("p", "y", "a b", criterion="harmless")],
            "1 rankings of criterion 'helpful' and 1 rankings of criterion 'harmless' cannot share",
        ),
        ([_rank("p", "x", "a")], "two judged"),
    ],
)
def test_bad_input_is_refused(rankings, message):
    prompts, completions = _world({"p": "ab"})
    with pytest.raises(DataError, match=message):
        agree(prompts, completions, rankings, FAST)


def test_ids_must_be_distinct():
    prompts, completions = _world({"p": "ab"})
    with pytest.raises(DataError, match="more than once"):
        agree(prompts, {"p": [*completions["p"], completions["p"][0]]}, [_rank("p", "x", "a b")], FAST)


def test_criterion_is_chosen():
    prompts, completions = _world({"p": "ab"})
    rankings = [_rank("p", k, "a b", criterion="helpful") for k in "xy"]
    rankings += [_rank("p", k, "b a", criterion="harmless") for k in "xy"]
    got = agree(prompts, completions, rankings, AgreeConfig(criterion="harmless", bootstrap=100))
    assert ("p", "b", "a") in _told(got)
    assert got.rankings["p"].criterion == "harmless"
    both = agree(
        prompts, completions, rankings, AgreeConfig(criterion=("helpful", "harmless"), bootstrap=100)
    )
    assert {row.labeler: row.rankings for row in both.labelers} == {"x": 2, "y": 2}
    assert both.rankings["p"].criterion == "helpful"
    with pytest.raises(DataError, match="no rankings to agree on of criterion"):
        agree(prompts, completions, rankings, AgreeConfig(criterion="kind", bootstrap=100))
    with pytest.raises(ConfigError, match="did you mean 'margin'"):
        AgreeConfig.build({"margn": 0.1})


def _pairs(rows, completions_of, votes_of):
    """Real pairs as prompts, completions and rankings; a vote is a completion's id, anything else a tie."""
    prompts = {r["id"]: Prompt.from_text(r.get("prompt") or r["instruction"], id=r["id"]) for r in rows}
    completions = {r["id"]: [Completion(str(t), id=c) for c, t in completions_of(r).items()] for r in rows}
    rankings = []
    for r in rows:
        names = tuple(c.id for c in completions[r["id"]])
        for labeler, vote in votes_of(r):
            tiers = ((vote,), tuple(c for c in names if c != vote)) if vote in names else (names,)
            rankings.append(Ranking(r["id"], labeler, tiers))
    return prompts, completions, rankings


def test_real_pandalm():
    rows = real_data("preferences-multi-annotator/pandalm_pairs")
    data = _pairs(
        rows,
        lambda r: {"response1": r["response1"], "response2": r["response2"]},
        lambda r: r["annotations"].items(),
    )
    got = agree(*data, AgreeConfig())
    # The publisher kept items of high agreement: all three say the same on 879 of 999.
    assert 0.83 < got.agreement.alpha_nominal.interval.value < 0.90
    assert got.agreement.exact.interval.low > 0.88
    assert len(got.comparisons) == 999
    unanimous = {
        r["id"]: next(iter(votes))
        for r in rows
        if len(votes := set(r["annotations"].values())) == 1 and "tie" not in votes
    }
    for comparison in got.comparisons:
        if comparison.prompt.id in unanimous:
            assert comparison.chosen.id == unanimous[comparison.prompt.id]
            assert comparison.p_chosen > 0.95
    assert all(row.agreement.value > 0.9 for row in got.labelers)


def test_real_tulu():
    rows = real_data("preferences-multi-annotator/tulu_human_eval_pairs")
    votes = lambda r: [(a["annotator"], a["preferred"]) for a in r["annotations"]]  # noqa: E731
    got = agree(*_pairs(rows, lambda r: r["completions"], votes), AgreeConfig())
    exact = got.agreement.exact
    assert exact.interval.n < 200  # few pairs were judged twice
    assert exact.chance < exact.interval.low < exact.interval.value < 0.7
    assert len(got.labelers) == 16
    assert sum("shares" in w for w in got.warnings) >= 8


def test_real_squality():
    rows = real_data("preferences-multi-annotator/squality_summary_rankings")
    prompts = {r["id"]: Prompt.from_text(r["question"], id=r["id"]) for r in rows}
    completions = {r["id"]: [Completion(t, id=c) for c, t in r["responses"].items()] for r in rows}
    rankings = []
    for r in rows:
        for review in r["reviews"]:
            tiers = defaultdict(list)
            for c, s in review["scores"].items():
                tiers[s["overall_rank"]].append(c)
            rankings.append(
                Ranking(r["id"], review["annotator"], tuple(tuple(tiers[n]) for n in sorted(tiers)))
            )
    got = agree(prompts, completions, rankings, AgreeConfig())
    first = Counter(r.tiers[0][0] for r in got.rankings.values())
    assert first["human"] > 90  # people's own summaries come out on top
    assert 0.7 < got.agreement.alpha_ordinal.interval.value < 0.9
    assert all(row.reliability.low > 0.5 for row in got.labelers)
    assert len(got.comparisons) == 300


def test_real_crowd_recovers_the_known_order():
    """Dots and puzzles with a true order; ballots come without ids, so ten stand-ins share them."""
    rows = real_data("preferences-multi-annotator/preflib_mturk_rankings")
    prompts = {r["id"]: Prompt.from_text(r["title"], id=r["id"]) for r in rows}
    completions = {r["id"]: [Completion(t, id=c) for c, t in r["alternatives"].items()] for r in rows}
    rng = np.random.default_rng(0)
    rankings = []
    for r in rows:
        ballots = [b["ranking"] for b in r["ballots"] for _ in range(b["count"])]
        for n, i in enumerate(rng.permutation(len(ballots))):
            rankings.append(Ranking(r["id"], f"stand-in {n % 10}", tuple((str(c),) for c in ballots[i])))
    got = agree(prompts, completions, rankings, FAST)
    for r in rows:
        values = got.scores[r["id"]]
        assert sorted(values, key=lambda c: -values[c].value) == [str(c) for c in r["true_ranking"]]


def test_soft_labels_have_intervals_that_hold_the_truth():
    """95 % of the intervals hold what a typical labeler would say if the scores were known."""
    pool = simulate(np.random.default_rng(3), [3.0, 2.5, 2.0, 1.5, 0.0], prompts=400, size=2, per_prompt=3)
    got = agree(pool.prompts, pool.completions, pool.rankings, FAST)
    assert got.intervals.keys() == _told(got).keys()
    inside = []
    for (p, a, b), (low, high) in got.intervals.items():
        truth = 1 / (1 + np.exp(-got.typical * (pool.gold[p][a] - pool.gold[p][b])))
        inside.append(low <= truth <= high)
        assert low < _told(got)[p, a, b] < high
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_pairs_judged_only_as_ties_name_no_winner():
    """In simulation such a pair's p_chosen is as near to one half as the truth is."""
    pool = simulate(
        np.random.default_rng(1), [3.0, 2.5, 2.0, 1.5], prompts=600, size=2, per_prompt=2, tie=1.5
    )
    got = agree(pool.prompts, pool.completions, pool.rankings, FAST)
    decided = {r.prompt_id for r in pool.rankings if len(r.tiers) == 2}
    tied = [c for c in got.comparisons if c.prompt.id not in decided]
    assert len(tied) > 40
    assert max(c.p_chosen for c in tied) < 0.6
    assert np.mean([c.p_chosen for c in tied]) < 0.53


def test_a_lenient_or_strict_labeler_does_not_sway_the_fails():
    """Three of eight labelers see a third of the failures. With one accuracy a labeler for both kinds of
    error the consensus is wrong on 7 % of completions, twice as often as the plain majority."""
    rng = np.random.default_rng(0)
    prompts, completions = _world({f"p{n}": "abcd" for n in range(150)})
    failed, rankings = {}, []
    for p in prompts:
        bad = rng.random(4) < 0.15
        failed |= {(p, c): bool(b) for c, b in zip("abcd", bad, strict=True)}
        for k in rng.choice(8, 3, replace=False):
            seen = rng.random(4) < np.where(bad, 0.3 if k < 3 else 0.9, 0.03)
            order = [c for c, s in zip("abcd", seen, strict=True) if not s]
            fails = tuple(c for c, s in zip("abcd", seen, strict=True) if s)
            rankings.append(Ranking(p, f"w{k}", tuple((c,) for c in order), fails))
    got = agree(prompts, completions, rankings, FAST)
    wrong = [(got.scores[p][c].p_fail >= 0.5) != bad for (p, c), bad in failed.items()]
    votes = {key: np.mean([key[1] in r.fails for r in rankings if r.prompt_id == key[0]]) for key in failed}
    plain = [(share > 0.5) != failed[key] for key, share in votes.items()]
    print(f"wrong on FAIL: consensus {np.mean(wrong):.3f}, majority {np.mean(plain):.3f}")
    assert np.mean(wrong) < np.mean(plain)
    assert np.mean(wrong) < 0.045


def test_a_poor_labeler_of_a_small_pool_is_told_what_their_votes_count():
    """Where the pool cannot tell labelers apart, nobody is said to count for less."""
    prompts, completions = _world({f"p{n}": "abcd" for n in range(6)})
    rankings = [_rank(p, k, "a b c d") for p in prompts for k in "wxyz"]
    rankings += [_rank(p, "upside", "d c b a") for p in prompts]
    told = agree(prompts, completions, rankings, FAST)
    assert told.prior is not None
    assert not told.prior.alike
    assert any("'upside' ranks against" in w and "count inverted" in w for w in told.warnings)
    fitted = fit(ranking_table(rankings))
    equal = replace(fitted, choice=Choice(told.prior.prior, 0.0, alike=True))
    said = _warnings(prompts, _placed(rankings), told.labelers, FAST, equal, {"upside": 3})
    assert [w for w in said if "'upside'" in w and "votes count in full" in w]
