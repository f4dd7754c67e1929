"""Agreement and consensus of real people (public sets outside of the repository), and the page on them."""

import json
from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

import docs_people
from accord.feedback.consensus import AgreeConfig, agree
from accord.judgements import Ranking
from accord.stats.agreement import agreement, kendall_w, pair_accuracy
from accord.stats.baselines import borda, majority
from accord.stats.consistency import leave_one_out_tau
from accord.types import Completion, Prompt
from realdata import real_data

FAST = AgreeConfig(bootstrap=100)
RNG = np.random.default_rng


def _squality():
    rankings = []
    for row in real_data("preferences-multi-annotator/squality_summary_rankings"):
        for review in row["reviews"]:
            tiers = defaultdict(list)
            for completion, scores in review["scores"].items():
                tiers[scores["overall_rank"]].append(completion)
            rankings.append(
                Ranking(row["id"], review["annotator"], tuple(tuple(tiers[n]) for n in sorted(tiers)))
            )
    return rankings


def _breakfast():
    return [
        Ranking(occasion, row["annotator"], tuple((item,) for item in order))
        for row in real_data("preferences-multi-annotator/breakfast_rankings")
        for occasion, order in row["rankings"].items()
    ]


def test_real_squality_by_the_slow_way_round():
    """W from its textbook form and tau from every pair, prompt by prompt."""
    rankings = _squality()
    by_prompt = defaultdict(list)
    for r in rankings:
        by_prompt[r.prompt_id].append({c: n for n, tier in enumerate(r.tiers) for c in tier})
    ws = [
        kendall_w(np.array([[p[c] for c in sorted(group[0])] for p in group])) for group in by_prompt.values()
    ]
    got = agreement(rankings, RNG(0))
    assert got.kendall_w.interval.value == pytest.approx(np.mean(ws))
    assert got.kendall_w.interval.n == 100
    assert got.kendall_w.chance == pytest.approx(1 / 3)
    assert got.kendall_w.left_out == ""
    # Three rankings without ties: W is 1/3 + 2/3 of the mean Spearman correlation of two of them.
    rhos = [
        np.corrcoef([one[c] for c in sorted(one)], [two[c] for c in sorted(one)])[0, 1]
        for group in by_prompt.values()
        for one, two in combinations(group, 2)
    ]
    assert got.kendall_w.interval.value == pytest.approx(1 / 3 + 2 / 3 * np.mean(rhos))


def test_real_squality_reviewers_agree_with_the_others():
    taus = leave_one_out_tau(_squality(), RNG(0))
    assert len(taus) == 4
    assert all(figure.interval.low > 0.6 for figure in taus.values())
    assert all(figure.interval.high < 1 for figure in taus.values())


def test_real_breakfast_tastes_differ_but_not_at_random():
    """Green and Rao's respondents: far from chance (1/42), and farther from unanimity."""
    got = agreement(_breakfast(), RNG(0))
    assert 2 / 42 < got.kendall_w.interval.low < got.kendall_w.interval.high < 0.5
    assert got.kendall_w.chance == pytest.approx(1 / 42)
    assert 0.5 < got.exact.interval.low < got.exact.interval.high < 0.75
    taus = [figure.interval.value for figure in leave_one_out_tau(_breakfast(), RNG(0)).values()]
    assert len(taus) == 42
    assert min(taus) < 0 < np.median(taus)  # somebody goes against the rest


def test_real_crowd_needs_many_ballots():
    """Few ballots err and many find the true order, by the consensus and by Borda counts."""
    rows = real_data("preferences-multi-annotator/preflib_mturk_rankings")
    prompts = {r["id"]: Prompt.from_text(r["title"], id=r["id"]) for r in rows}
    completions = {r["id"]: [Completion(t, id=c) for c, t in r["alternatives"].items()] for r in rows}
    truth = {r["id"]: {str(c): -float(n) for n, c in enumerate(r["true_ranking"])} for r in rows}
    accuracy = {}
    for ballots in (2, 20, 200):
        found = []
        for seed in range(2):
            rng = RNG([seed, ballots])
            rankings = []
            for r in rows:
                cast = [b["ranking"] for b in r["ballots"] for _ in range(b["count"])]
                for n, i in enumerate(rng.permutation(len(cast))[:ballots]):
                    rankings.append(Ranking(r["id"], f"stand-in {n % 10}", tuple((str(c),) for c in cast[i])))
            got = agree(prompts, completions, rankings, FAST)
            values = {p: {c: s.value for c, s in group.items()} for p, group in got.scores.items()}
            found.append([pair_accuracy(v, truth, rng).value for v in (values, borda(rankings))])
        accuracy[ballots] = np.mean(found, axis=0)
    assert (accuracy[2] < 0.8).all()
    assert (accuracy[20] > accuracy[2] + 0.05).all()
    assert (accuracy[200] > 0.97).all()
    ours, counts = accuracy[200]
    assert ours > counts - 0.02


def test_real_pandalm_majority_is_the_publishers():
    """879 of 999 pairs are unanimous, ties among them; the share of each pair is 0, 1/2 or 1 there."""
    rows = real_data("preferences-multi-annotator/pandalm_pairs")
    rankings, unanimous = [], {}
    for row in rows:
        votes = row["annotations"]
        for labeler, vote in votes.items():
            other = {"response1": "response2", "response2": "response1"}.get(vote)
            tiers = ((vote,), (other,)) if other else (("response1", "response2"),)
            rankings.append(Ranking(row["id"], labeler, tiers))
        if len(set(votes.values())) == 1:
            unanimous[row["id"]] = {"response1": 1.0, "response2": 0.0, "tie": 0.5}[votes["annotator1"]]
    shares = {p: pairs["response1", "response2"] for p, pairs in majority(rankings).items()}
    assert len(unanimous) == 879
    assert len(shares) == 999
    assert all(shares[p] == share for p, share in unanimous.items())


# -- the page ------------------------------------------------------------------------------------


def test_the_page_on_people_is_what_was_measured():
    data = json.loads(docs_people.RESULT.read_text(encoding="utf-8"))
    assert not data["quick"]
    assert docs_people.PAGE.read_text(encoding="utf-8") == docs_people.page(data), (
        "run scripts/docs_people.py"
    )


def test_a_difference_is_called_what_it_is():
    def told(low, value, high, **more):
        return docs_people.difference({"low": low, "value": value, "high": high}, **more)

    assert told(0.01, 0.02, 0.03) == "+0.020<br>[+0.010,&nbsp;+0.030]<br>**better**"
    assert told(-0.03, -0.02, -0.01) == "-0.020<br>[-0.030,&nbsp;-0.010]<br>**worse**"
    assert told(-0.03, -0.02, -0.01, more_is_better=False).endswith("**better**")
    assert told(0.0, 0.01, 0.02).endswith("not shown")
    assert told(-0.01, 0.01, 0.02).endswith("not shown")
