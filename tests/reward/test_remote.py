"""A remote scorer against real servers: accord's own, and one that misbehaves as it is told."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn

from accord.errors import ConfigError, ModelError, NumericsError
from accord.reward.remote import RemoteConfig, RemoteReward
from accord.reward.rules import Length
from accord.reward.served import create_app, serve
from accord.reward.verify import NumberMatch
from accord.types import Completion, Message, Prompt, Score, score_groups

GROUPS = [
    (Prompt.from_text(f"q{i}", meta={"answer": i}), [Completion("x" * k) for k in range(i)]) for i in range(6)
]


class Told(BaseHTTPRequestHandler):
    """Answers each request with the next of what it was told to say, then by the texts' lengths."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((dict(self.headers), json.loads(body)))
        status, headers, said = 200, {}, None
        if self.server.told:
            status, headers, said = self.server.told.popleft()
        if status == "hang":
            time.sleep(1.5)
            return
        if status == "drop":
            self.connection.close()
            return
        if said is None:
            groups = json.loads(body)["groups"]
            said = json.dumps({"scores": [[len(text) for text in g["completions"]] for g in groups]})
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    listening.told, listening.asked = deque(), []
    listening.url = f"http://127.0.0.1:{listening.server_port}/score"
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield listening
    listening.shutdown()
    listening.server_close()


def remote(server, **config) -> RemoteReward:
    return RemoteReward(RemoteConfig(url=server.url, **{"pause": 0.01, "seconds": 0.5, **config}))


def one(server, **config) -> Score:
    return remote(server, **config).score(Prompt.from_text("?"), [Completion("abc")])[0]


# -- what is asked and in which order ----------------------------------------------------------


def test_scores_come_in_order_and_batches_part_no_group(server):
    scored = score_groups(remote(server, batch=5), GROUPS)
    assert [[s.value for s in group] for group in scored] == [list(range(i)) for i in range(6)]
    sizes = [[len(g["completions"]) for g in body["groups"]] for _, body in server.asked]
    assert sizes == [[0, 1, 2], [3], [4], [5]]


def test_meta_stays_at_home_unless_it_is_asked_for(server):
    turns = (Message("system", "Be brief."), Message("user", "2 + 2?"))
    prompt = Prompt(turns, {"answer": 4}, "p7")
    remote(server).score(prompt, [Completion("4")])
    remote(server, meta=True).score(prompt, [Completion("4")])
    asked = [body["groups"][0]["prompt"] for _, body in server.asked]
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    assert asked[0] == {"id": "p7", "meta": {}, "messages": told}
    assert asked[1]["meta"] == {"answer": 4}


def test_the_token_comes_from_the_environment(server, monkeypatch):
    with pytest.raises(ConfigError, match=r"SCORER_TOKEN.*is not set"):
        one(server, token_env="SCORER_TOKEN")
    monkeypatch.setenv("SCORER_TOKEN", "secret-1")
    one(server, token_env="SCORER_TOKEN")
    one(server)
    assert [headers.get("Authorization") for headers, _ in server.asked] == ["Bearer secret-1", None]


# -- what may pass is tried again --------------------------------------------------------------


@pytest.mark.parametrize("trouble", [429, 500, 503, "drop", "hang"])
def test_what_may_pass_is_tried_again_with_the_same_key(server, trouble):
    server.told += [(trouble, {}, "busy")] * 2
    assert one(server).value == 3
    keys = [headers["Idempotency-Key"] for headers, _ in server.asked]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    one(server)
    remote(server).score(Prompt.from_text("?"), [Completion("other")])
    again, other = [headers["Idempotency-Key"] for headers, _ in server.asked[3:]]
    assert again == keys[0] != other


def test_the_server_says_how_long_to_wait(server):
    server.told.append((429, {"Retry-After": "1"}, ""))
    started = time.monotonic()
    assert one(server).value == 3
    assert time.monotonic() - started >= 1.0


def test_it_gives_up_after_the_tries_with_the_last_reason(server):
    server.told += [(503, {}, "warming up")] * 9
    with pytest.raises(ModelError, match=r"no scores in 3 tries, the last time: 503 .*warming up"):
        one(server, tries=3)
    assert len(server.asked) == 3


def test_a_server_that_is_not_there_is_named(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match=r"127.0.0.1.*in 2 tries.*refused"):
        one(server, tries=2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_an_error_at_once(server, status):
    server.told.append((status, {}, "no such scorer"))
    with pytest.raises(ModelError, match=rf"refused: {status} .*no such scorer"):
        one(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server, status):
    server.told.append((status, {"Location": server.url}, ""))
    with pytest.raises(ModelError, match="redirects are not followed"):
        one(server)
    assert len(server.asked) == 1


# -- answers that are none ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("", ModelError),
        ("<html>", ModelError),
        ("[" * 100_000, ModelError),
        ("[1]", ModelError),
        ('{"score": [[1]]}', ModelError),
        ('{"scores": 3}', ModelError),
        ('{"scores": []}', NumericsError),
        ('{"scores": [[1], [2]]}', NumericsError),
        ('{"scores": [[1, 2]]}', NumericsError),
        ('{"scores": [[]]}', NumericsError),
        ('{"scores": [1]}', NumericsError),
        ('{"scores": [[NaN]]}', NumericsError),
        ('{"scores": [[Infinity]]}', NumericsError),
        ('{"scores": [[null]]}', NumericsError),
        ('{"scores": [["1"]]}', NumericsError),
        ('{"scores": [[true]]}', NumericsError),
        ('{"scores": [[{"value": 1, "parts": {"a": NaN}}]]}', NumericsError),
        ('{"scores": [[{}]]}', NumericsError),
        ('{"scores": [[1' + "0" * 400 + "]]}", NumericsError),
        ('{"scores": [[{"value": 1, "parts": 3}]]}', NumericsError),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_never_a_zero(server, said, error):
    server.told.append((200, {}, said))
    with pytest.raises(error, match=r"127\.0\.0\.1"):
        one(server)
    assert len(server.asked) == 1


def test_parts_and_reasons_come_along(server):
    server.told.append((200, {}, '{"scores": [[{"value": 1, "parts": {"a": 2}, "why": "so"}]]}'))
    assert one(server) == Score(1.0, {"a": 2.0}, "so")


# -- refused settings --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "ftp://x/y", "localhost:80", "https://", "http://user:pass@host/score"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url):
    with pytest.raises(ConfigError):
        RemoteConfig.build({"url": url})


def test_a_token_does_not_travel_in_the_open():
    with pytest.raises(ConfigError, match="use https"):
        RemoteReward(RemoteConfig(url="http://scores.example.org/score", token_env="T"))
    for url in ("https://scores.example.org/score", "http://localhost:1/score", "http://[::1]:1/score"):
        RemoteReward(RemoteConfig(url=url, token_env="T"))


# -- accord's own server -----------------------------------------------------------------------


@pytest.fixture
def own():
    """Serves a scorer for real; the addresses it gave are closed at the end."""
    running = []

    def start(scorer, token="") -> str:
        settings = uvicorn.Config(create_app(scorer, token), port=0, log_level="error")
        running.append(uvicorn.Server(settings))
        threading.Thread(target=running[-1].run, daemon=True).start()
        while not running[-1].started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{running[-1].servers[0].sockets[0].getsockname()[1]}/score"

    yield start
    for each in running:
        each.should_exit = True


def test_a_served_scorer_is_the_scorer_itself(own):
    rule = NumberMatch()
    far = RemoteReward(RemoteConfig(url=own(rule), meta=True, batch=3))
    groups = [(p, [Completion(f"it is {k}") for k in range(4)]) for p, _ in GROUPS]
    assert score_groups(far, groups) == score_groups(rule, groups)


def test_a_served_scorer_wants_its_token(own, monkeypatch):
    url = own(Length(longest=3), token="open sesame")
    with pytest.raises(ModelError, match="refused: 401"):
        RemoteReward(RemoteConfig(url=url)).score(*GROUPS[2])
    monkeypatch.setenv("T", "open sesame")
    assert len(RemoteReward(RemoteConfig(url=url, token_env="T")).score(*GROUPS[2])) == 2


def test_what_the_served_scorer_says_of_bad_data_reaches_the_asker(own):
    far = RemoteReward(RemoteConfig(url=own(NumberMatch())))
    with pytest.raises(ModelError, match=r"422.*no number in meta\['answer'\]"):
        far.score(*GROUPS[2])


def test_nan_from_a_served_scorer_is_an_error_at_the_asker(own):
    class Broken:
        def score(self, prompt, completions):
            return [Score(math.nan) for _ in completions]

    with pytest.raises(ModelError, match=r"422.*the score of '' is nan"):
        RemoteReward(RemoteConfig(url=own(Broken()), tries=1)).score(*GROUPS[2])


def test_a_request_that_is_none_is_refused_with_its_fault(own):
    far = RemoteReward(RemoteConfig(url=own(Length(longest=3))))
    far._group = lambda prompt, completions: {"prompt": {"messages": []}, "completions": []}
    with pytest.raises(ModelError, match=r"422.*messages"):
        far.score(*GROUPS[2])


def test_nobody_beyond_this_machine_is_served_without_a_token():
    with pytest.raises(ConfigError, match="pass a token"):
        serve(Length(longest=3), host="0.0.0.0")
