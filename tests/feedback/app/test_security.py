"""What stands before every page: where a request comes from, and how many there may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from accord.feedback.app.security import KEYS_KEPT, POLICY, Limit, foreign


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://a.example.org", "host": "b.example.org"}, True),
        ({"origin": "http://desk:8080", "host": "desk:8080"}, False),
        ({"origin": "https://desk", "host": "desk"}, False),
        ({"origin": "http://evil.example", "host": "desk:8080"}, True),
        ({"origin": "http://desk:9999", "host": "desk:8080"}, True),
        ({"origin": "null", "host": "desk:8080"}, True),
    ],
)
def test_a_request_from_another_site_is_known_by_its_headers(headers, refused):
    assert foreign(Headers(headers)) is refused


def test_the_policy_lets_in_nothing_inline_and_nothing_from_elsewhere():
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert "frame-ancestors 'none'" in POLICY


def test_a_bucket_empties_and_fills_again():
    limit = Limit(burst=3, per_second=0.5)
    assert [limit.take("ann", 100.0) for _ in range(3)] == [0, 0, 0]
    assert limit.take("ann", 100.0) == 2.0
    assert limit.wait("ann", 101.0) == 1.0
    assert limit.take("bob", 100.0) == 0, "each key has a bucket of its own"
    assert limit.take("ann", 102.0) == 0
    assert limit.take("ann", 102.0) == 2.0
    assert [limit.take("ann", 1000.0) for _ in range(4)] == [0, 0, 0, 2.0], "never fuller than the burst"


@given(st.lists(st.floats(0, 50), max_size=60), st.integers(1, 5), st.floats(0.1, 3))
def test_in_no_stretch_of_time_is_more_allowed_than_burst_and_rate(gaps, burst, rate):
    limit, now, allowed = Limit(burst, rate), 0.0, []
    for gap in gaps:
        now += gap / 10
        if limit.take("k", now) == 0:
            allowed.append(now)
    for i, start in enumerate(allowed):
        for j in range(i, len(allowed)):
            assert j - i + 1 <= burst + rate * (allowed[j] - start) + 1e-6


def test_a_clock_that_goes_back_gives_and_takes_nothing():
    limit = Limit(burst=1, per_second=1)
    assert limit.take("k", 100.0) == 0
    assert limit.take("k", 50.0) == 1.0
    assert limit.take("k", 101.0) == 0


def test_many_keys_do_not_fill_the_memory():
    limit = Limit(burst=2, per_second=1)
    limit.take("busy", KEYS_KEPT)
    for i in range(2 * KEYS_KEPT):
        limit.take(str(i), i / 10)
    assert len(limit._left) <= KEYS_KEPT + 1
