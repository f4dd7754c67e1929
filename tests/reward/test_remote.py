"""A remote scorer against real servers: accord's own, and one that misbehaves as it is told."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest
import uvicorn

from accord.errors import ConfigError, ModelError, NumericsError
from accord.reward.remote import RemoteConfig, RemoteReward
from accord.reward.rules import Length
from accord.reward.served import create_app, serve
from accord.reward.verify import NumberMatch
from accord.types import Completion, Message, Prompt, Score, score_groups
from told import telling

GROUPS = [
    (Prompt.from_text(f"q{i}", meta={"answer": i}), [Completion("x" * k) for k in range(i)]) for i in range(6)
]


def lengths(body) -> str:
    """The scores that are each text's length."""
    return json.dumps({"scores": [[len(text) for text in g["completions"]] for g in body["groups"]]})


@pytest.fixture
def server():
    with telling(lengths, "/score") as listening:
        yield listening


def remote(server, **config) -> RemoteReward:
    return RemoteReward(RemoteConfig(url=server.url, **{"pause": 0.01, "seconds": 30.0, **config}))


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


def test_asking_again_is_known_by_its_key(server):
    server.told.append((503, {}, "busy"))
    assert one(server).value == 3
    one(server)
    remote(server).score(Prompt.from_text("?"), [Completion("other")])
    first, retried, again, other = [headers["Idempotency-Key"] for headers, _ in server.asked]
    assert first == retried == again != other


def test_a_server_that_gives_no_scores_is_named(server):
    server.told += [(503, {}, "warming up")] * 9
    with pytest.raises(ModelError, match=r"no scores in 3 tries, the last time: 503 .*warming up"):
        one(server, tries=3)


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
