import threading
import time

import numpy as np
import pytest

from accord.feedback.consensus import AgreeConfig
from accord.feedback.labeling import monitor_study
from accord.feedback.labeling.monitor_study import Studies, current_mark, study
from accord.judgements import Ranking
from accord.stats.labelers import Standing
from accord.store.store import Store
from accord.types import Completion
from pool import simulate

CONFIG = AgreeConfig(criterion="", bootstrap=100)


@pytest.fixture(scope="module")
def pool():
    """Five reliable labelers and a coin, all simulated."""
    return simulate(np.random.default_rng(3), [4.0] * 5 + [0.0], 100, 3, 4)


def filled(folder, pool):
    store = Store(f"sqlite:///{folder / 'a.db'}", folder)
    bare = [(pool.prompts[p], [Completion(c.text) for c in pool.completions[p]]) for p in pool.gold]
    ids = dict(zip(pool.gold, store.add_groups(bare), strict=True))
    renamed = []
    for each in pool.rankings:  # the pool's c0, c1... are names within a prompt; the store's ids are its own
        name = dict(zip(("c0", "c1", "c2"), ids[each.prompt_id], strict=True))
        tiers = tuple(tuple(name[c] for c in tier) for tier in each.tiers)
        renamed.append(Ranking(each.prompt_id, each.labeler, tiers, shown=tuple(ids[each.prompt_id])))
    store.add_rankings(renamed)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory, pool):
    store = filled(tmp_path_factory.mktemp("study"), pool)
    yield store
    store.close()


def test_a_study_holds_what_the_pages_show(store):
    found = study(store, CONFIG, 100.0)
    assert (found.at, found.rankings, found.trouble) == (100.0, 400, "")
    assert found.mark == current_mark(store)
    assert found.agreement.exact.interval.n == 100
    assert {line.labeler: line.standing for line in found.labelers}["w5"] == Standing.COIN
    assert found.disputes
    assert found.disputes == sorted(found.disputes, key=lambda each: -each.heat)
    assert found.contradicted.n <= 100
    assert found.consensus.comparisons == []
    assert found.line("w0").labeler == "w0"
    assert found.line("nobody") is None
    assert not found.unclear


def test_a_pool_that_reads_the_guidelines_two_ways_has_them_called_unclear(tmp_path):
    """Simulated: all reliable, but three prompts of four are read the other way round half of the time."""
    rng = np.random.default_rng(5)
    pool = simulate(rng, [6.0] * 6, 200, 3, 3)
    for n, each in enumerate(pool.rankings):
        if int(each.prompt_id[1:]) % 4 and rng.random() < 0.5:
            pool.rankings[n] = Ranking(each.prompt_id, each.labeler, each.tiers[::-1], shown=each.shown)
    store = filled(tmp_path, pool)
    found = study(store, CONFIG, 0.0)
    store.close()
    assert found.unclear


def test_no_rankings_are_a_reason_and_no_error(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'a.db'}", tmp_path)
    found = study(store, CONFIG, 0.0)
    assert "no rankings" in found.trouble
    assert found.consensus is None
    store.close()


def test_rankings_of_another_criterion_are_left_out(store):
    found = study(store, CONFIG.model_copy(update={"criterion": "another"}), 0.0)
    assert found.rankings == 0


def test_a_study_starts_when_somebody_looks_and_only_if_something_came(store):
    studies = Studies(store, CONFIG, lambda: 7.0)
    first = studies.latest(wait=60)
    assert first.at == 7.0
    assert studies.latest(wait=60) is first
    assert not studies.busy


def test_the_latest_study_is_shown_while_a_newer_one_is_under_way(tmp_path, pool, monkeypatch):
    store = filled(tmp_path, pool)
    monkeypatch.setattr(monitor_study, "LEAST_PAUSE", 0.0)
    studies = Studies(store, CONFIG, time.time)
    first = studies.latest(wait=60)
    go_on, real = threading.Event(), monitor_study.study

    def slow(*arguments):
        go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(monitor_study, "study", slow)
    last = list(store.rankings())[-1]
    store.add_rankings([Ranking(last.prompt_id, "late", last.tiers, shown=last.shown)])
    assert studies.latest() is first, "a tenth of the time is not over"
    assert not studies.busy
    monkeypatch.setattr(monitor_study, "REST", 0.0)
    assert studies.latest(wait=0.05) is first
    assert studies.busy
    assert studies.latest() is first, "one at a time"
    assert sum(thread.name == "accord-study" for thread in threading.enumerate()) == 1
    go_on.set()
    newer = studies.latest(wait=60)
    assert newer.rankings == first.rankings + 1
    store.close()


def test_a_study_that_fails_says_so_and_the_next_one_runs(store, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(monitor_study, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(monitor_study, "study", broken)
    studies = Studies(store, CONFIG, time.time)
    assert "RuntimeError: planted" in studies.latest(wait=60).trouble
    assert "planted" in caplog.text
