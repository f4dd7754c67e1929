"""Pools: the same scores in the same order, the first error at once, and nobody waits for what hangs."""

from __future__ import annotations

import os
import threading
import time

import pytest

from accord.errors import DataError, ModelError
from accord.reward.pool import PoolConfig, PooledReward
from accord.reward.rules import FunctionReward
from accord.types import Completion, Prompt, Score, score_groups

GROUPS = [(Prompt.from_text(f"q{i}"), [Completion("x" * i), Completion("y" * (i + 1))]) for i in range(12)]


class Slow:
    """Scores by length; sleeps, fails or hangs as the text says."""

    def __init__(self):
        self.calls, self.most, self.now, self.lock = 0, 0, 0, threading.Lock()

    def score(self, prompt, completions):
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02 if len(prompt.text) % 2 else 0.05)  # they end out of order
        with self.lock:
            self.now -= 1
        if "hang" in prompt.text:
            time.sleep(60)
        if "fail" in prompt.text:
            raise DataError(f"failed at {prompt.text}")
        return [Score(float(len(c.text))) for c in completions]


def test_threads_keep_the_order_and_work_side_by_side():
    slow = Slow()
    with PooledReward(slow, PoolConfig(workers=4)) as pooled:
        scored = score_groups(pooled, GROUPS)
    assert [[s.value for s in group] for group in scored] == [[i, i + 1] for i in range(12)]
    assert (slow.calls, slow.most) == (12, 4)


def test_one_worker_is_one_at_a_time_and_no_groups_are_none():
    slow = Slow()
    assert PooledReward(slow, PoolConfig(workers=1)).score_groups([]) == []
    PooledReward(slow, PoolConfig(workers=1)).score_groups(GROUPS[:3])
    assert slow.most == 1
    assert [s.value for s in PooledReward(slow).score(*GROUPS[3])] == [3, 4]


def test_the_first_error_comes_as_it_was_and_stops_the_rest():
    slow = Slow()
    groups = [(Prompt.from_text("fail"), [Completion("")]), *GROUPS * 20]
    with pytest.raises(DataError, match="failed at fail"):
        PooledReward(slow, PoolConfig(workers=2)).score_groups(groups)
    time.sleep(0.3)
    assert slow.calls < 20  # of 241


def test_what_hangs_in_a_thread_is_named_and_not_waited_for():
    groups = [GROUPS[0], (Prompt.from_text("hang", id="stuck"), [Completion("why")]), *GROUPS[1:]]
    started = time.monotonic()
    with pytest.raises(
        ModelError, match=r"no scores within 1 s for the 1 completions of prompt 'stuck'.*'why'"
    ):
        PooledReward(Slow(), PoolConfig(workers=2, seconds=1)).score_groups(groups)
    assert time.monotonic() - started < 30


def test_time_in_the_queue_is_not_the_groups_own():
    """Twelve groups of 0.05 s behind one worker take longer together than each may."""
    groups = [(Prompt.from_text(f"q{i}!"), c) for i, (_, c) in enumerate(GROUPS * 3)]
    assert len(PooledReward(Slow(), PoolConfig(workers=1, seconds=1)).score_groups(groups)) == 36


def test_a_scorer_that_is_interrupted_interrupts():
    def judge(prompt, completion):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PooledReward(FunctionReward(judge)).score_groups(GROUPS)


# -- processes ---------------------------------------------------------------------------------


def test_processes_score_the_same_and_elsewhere_and_hang_alone():
    """One pool through a good call, an error, and a time-out, after each of which it works again."""
    with PooledReward(Busy(os.getpid()), PoolConfig(kind="processes", workers=2, seconds=2)) as pooled:
        scored = pooled.score_groups(GROUPS)
        assert [[s.value for s in group] for group in scored] == [[i, i + 1] for i in range(12)]
        with pytest.raises(DataError, match="planted"):
            pooled.score_groups([(Prompt.from_text("fail"), [Completion("x")]), *GROUPS])
        assert pooled._processes is None
        assert len(pooled.score_groups(GROUPS[:2])) == 2
        with pytest.raises(ModelError, match="'stuck'"):
            pooled.score_groups([(Prompt.from_text("spin", id="stuck"), [Completion("x")])])


class Busy:
    """Length by another process; spins for ever, holding the interpreter, if asked."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def score(self, prompt, completions):
        assert os.getpid() != self.parent
        while prompt.text == "spin":
            pass
        if prompt.text == "fail":
            raise DataError("planted")
        return [Score(float(len(c.text))) for c in completions]
