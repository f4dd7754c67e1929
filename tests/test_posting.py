"""Posting to a server that misbehaves as it is told: what may pass, what will not, what must not leave."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from accord.errors import ConfigError, ModelError
from accord.posting import Poster, PostingConfig, Refused, retry_after
from told import telling


@pytest.fixture
def server():
    with telling(lambda body: f"got {body}") as listening:
        yield listening


def post(server, **config) -> bytes:
    settings = PostingConfig(url=server.url, **{"pause": 0.01, "seconds": 30.0, **config})
    return Poster(settings, "answers").post(b"[1]", "key-1")


def test_the_token_comes_from_the_environment(server, monkeypatch):
    with pytest.raises(ConfigError, match=r"SOME_TOKEN.*is not set"):
        post(server, token_env="SOME_TOKEN")
    monkeypatch.setenv("SOME_TOKEN", "secret-1")
    post(server, token_env="SOME_TOKEN")
    post(server)
    assert [headers.get("Authorization") for headers, _ in server.asked] == ["Bearer secret-1", None]


@pytest.mark.parametrize("trouble", [408, 429, 500, 503, "drop"])
def test_what_may_pass_is_tried_again_with_the_same_key(server, trouble):
    server.told += [(trouble, {}, "busy")] * 2
    assert post(server) == b"got [1]"
    assert [headers["Idempotency-Key"] for headers, _ in server.asked] == ["key-1"] * 3


def test_a_server_that_says_nothing_is_asked_again(server):
    server.told += [("hang", {}, "")] * 2
    assert post(server, seconds=0.5, tries=20) == b"got [1]"
    assert len(server.asked) >= 3


def test_a_cut_answer_is_asked_for_again(server):
    server.told.append((200, {"Content-Length": "99"}, "got [1"))
    assert post(server) == b"got [1]"
    assert len(server.asked) == 2


def test_the_server_says_how_long_to_wait(server):
    server.told.append((429, {"Retry-After": "1"}, ""))
    started = time.monotonic()
    assert post(server) == b"got [1]"
    assert time.monotonic() - started >= 1.0


def test_a_wait_is_said_once_on_standard_error_and_nothing_else_is(server, capsys):
    server.told += [(503, {}, "busy"), (429, {"Retry-After": "1"}, "slow down")]
    assert post(server) == b"got [1]"
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("asks to wait 1 s (429") == 1
    assert "503" not in said


def test_a_date_is_waited_for_by_the_servers_own_clock(server):
    # an hour behind ours, and a second ahead of itself
    clock = datetime.now(UTC) - timedelta(hours=1)
    dates = {"Date": format_datetime(clock, usegmt=True),
             "Retry-After": format_datetime(clock + timedelta(seconds=1), usegmt=True)}  # fmt: skip
    assert retry_after(dates) == 1.0
    ahead = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    server.told.append((503, {"Retry-After": ahead}, ""))
    started = time.monotonic()
    assert post(server) == b"got [1]"
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), (" 90 ", 90.0), ("0", 0.0), ("", 0.0), ("soon", 0.0), ("-3", 0.0), ("1.5", 1.5),
     ("\u0663", 0.0),
     ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0), ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
     ("Wed Oct 21 07:28:30 2015", 30.0), ("Wed, 21 Oct 2015 07:27:30 GMT", 0.0), ("Wed, 99 Oct 2015", 0.0)],
)  # fmt: skip
def test_how_long_a_server_asks_to_wait(said, seconds):
    assert retry_after({"Retry-After": said, "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}) == seconds
    assert retry_after({}) == 0.0


def test_a_longer_wait_than_allowed_is_an_error_at_once(server):
    server.told.append((429, {"Retry-After": "3600"}, "quota"))
    with pytest.raises(ModelError, match=r"wait 3600 s, more than longest_pause = 600.*quota.*go on later"):
        post(server)
    assert len(server.asked) == 1


def test_it_gives_up_after_the_tries_with_the_last_reason(server):
    server.told += [(503, {}, "warming up")] * 9
    with pytest.raises(ModelError, match=r"no answers in 3 tries, the last time: 503 .*warming up"):
        post(server, tries=3)
    assert len(server.asked) == 3


def test_a_server_that_is_not_there_is_named(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match=r"127.0.0.1.*in 2 tries.*refused"):
        post(server, tries=2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_an_error_at_once(server, status):
    server.told.append((status, {}, "no such thing"))
    with pytest.raises(Refused, match=rf"refused: {status} .*no such thing") as caught:
        post(server)
    assert (caught.value.status, caught.value.detail) == (status, "no such thing")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server, status):
    server.told.append((status, {"Location": server.url}, ""))
    with pytest.raises(ModelError, match="redirects are not followed"):
        post(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["", "ftp://x/y", "localhost:80", "https://", "http://user:pass@host/score"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url):
    with pytest.raises(ConfigError):
        PostingConfig.build({"url": url})


def test_a_token_does_not_travel_in_the_open():
    with pytest.raises(ConfigError, match="use https"):
        Poster(PostingConfig(url="http://scores.example.org/score", token_env="T"), "answers")
    for url in ("https://scores.example.org/score", "http://localhost:1/score", "http://[::1]:1/score"):
        Poster(PostingConfig(url=url, token_env="T"), "answers")


def test_an_answer_without_end_is_not_read_to_its_end(server, monkeypatch):
    monkeypatch.setattr("accord.posting.LARGEST", 5)
    with pytest.raises(ModelError, match="answered with more than"):
        post(server)
