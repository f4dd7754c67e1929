"""A model behind a URL: what it says is data, what is paid for is kept, and a killed run pays once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from accord.chat import AnswerFile, ChatSampler, Ended
from accord.errors import ConfigError, DataError, ModelError
from accord.types import Message, Prompt, Sampler, Stop

pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
from chatting import broken, chat, chat_server, completion

PROMPTS = [Prompt.from_text(f"q{i}") for i in range(6)]


@pytest.fixture
def server():
    with chat_server() as listening:
        yield listening


def test_the_servers_bodies_are_what_the_official_client_reads(server):
    import openai

    client = openai.OpenAI(base_url=server.url, api_key="k", max_retries=0)
    said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
    assert said.choices[0].message.content == "re: q"
    assert chat(server).ask([(Prompt.from_text("q"), {}, 0)], 0.0)[0].text == "re: q"
    ours, theirs = [body for _, body in server.asked][::-1]
    assert {k: ours[k] for k in theirs} == theirs


def test_a_sampler_answers_in_order_with_a_seed_each(server):
    sampler = ChatSampler(chat(server, seed=5, temperature=0.7, max_tokens=9))
    assert isinstance(sampler, Sampler)
    turns = Prompt((Message("system", "Be brief."), Message("user", "q")))
    found = sampler.sample([*PROMPTS, turns], 2)
    assert [[c.text for c in row] for row in found[:6]] == [[f"re: q{i}"] * 2 for i in range(6)]
    assert found[0][0].stop is Stop.EOS
    bodies = [body for _, body in server.asked]
    assert Counter(body["seed"] for body in bodies) == {5: 7, 6: 7}
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in bodies} == {("m", 0.7, 9)}
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
    assert sum(body["messages"] == told for body in bodies) == 2
    origin = found[0][1].origin
    assert (origin.model, origin.seed, origin.sampling["temperature"]) == (f"{server.url}#m", 6, 0.7)


def test_one_prompt_twice_is_sampled_twice(server):
    ChatSampler(chat(server)).sample([PROMPTS[0], PROMPTS[0]])
    assert sorted(body["seed"] for _, body in server.asked) == [0, 1]


def test_fields_can_be_added_and_left_out(server):
    settings = chat(server, extra={"max_completion_tokens": 3}, leave_out=("max_tokens", "seed"))
    ChatSampler(settings).sample(PROMPTS[:1], 2)
    assert [set(body) for _, body in server.asked] == [
        {"model", "messages", "temperature", "max_completion_tokens"}
    ] * 2


# -- what is said is data ----------------------------------------------------------------------


def test_every_end_is_told(server):
    server.told += [
        (200, {}, completion("half an ans", finish="length")),
        (200, {}, completion(None, refusal="I cannot help.")),
        (200, {}, completion("", finish="content_filter")),
        (200, {}, completion(None)),
        (400, {}, json.dumps({"error": {"code": "content_filter", "message": "filtered"}})),
        (200, {}, "<html>"),
    ]
    sampler = ChatSampler(chat(server, parallel=1))
    found = [row[0] for row in sampler.sample(PROMPTS)]
    assert [c.text for c in found[:4]] == ["half an ans", "I cannot help.", "", ""]
    assert [c.text for c in found[4:]] == ["", ""], "what a server says of an error is nobody's answer"
    stops = [Stop.LENGTH, Stop.GIVEN, Stop.GIVEN, Stop.EOS, Stop.GIVEN, Stop.GIVEN]
    assert [c.stop for c in found] == stops
    assert sampler.ended == {Ended.CUT: 1, Ended.REFUSED: 3, Ended.WHOLE: 1, Ended.MALFORMED: 1}


@pytest.mark.parametrize("body", broken(completion("x")), ids=range(len(broken(completion("x")))))
def test_what_is_no_chat_completion_is_data_and_not_kept(server, tmp_path, body):
    asks = chat(server, parallel=1, cache=str(tmp_path / "a.jsonl"))
    server.told.append((200, {}, body))
    one, two = asks.ask([(p, {}, 0) for p in PROMPTS[:2]], 0.0)
    assert (one.ended, one.text, two.text) == (Ended.MALFORMED, body[:500], "re: q1")
    assert asks.ask([(PROMPTS[0], {}, 0)], 0.0)[0].text == "re: q0"


def test_an_address_that_speaks_something_else_is_an_error_soon(server):
    server.told += [(200, {}, "<html>welcome</html>")] * 400
    prompts = [Prompt.from_text(f"q{i}") for i in range(400)]
    with pytest.raises(ModelError, match=r"10 answers in a row .*welcome.*OpenAI-compatible"):
        ChatSampler(chat(server, parallel=1)).sample(prompts)
    assert len(server.asked) < 400


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, "leave_out"), (401, "token_env"), (404, "the model is named"), (307, "redirects")],
)
def test_settings_the_server_refuses_are_an_error_that_says_what_to_do(server, status, hint):
    server.told += [(status, {}, "no")] * 9
    with pytest.raises(ModelError, match=hint):
        ChatSampler(chat(server)).sample(PROMPTS)


@pytest.mark.parametrize("trouble", [429, 500, "drop", "hang"])
def test_troubles_that_pass_are_survived(server, trouble):
    server.told += [(trouble, {"Retry-After": "0"}, "busy")] * 3
    asks = chat(server, tries=20, seconds=1.0 if trouble == "hang" else 30.0)
    assert [row[0].text for row in ChatSampler(asks).sample(PROMPTS)] == [f"re: q{i}" for i in range(6)]


# -- what is paid for is kept ------------------------------------------------------------------


def test_what_is_kept_is_not_asked_again_and_another_request_never_matches(server, tmp_path):
    cache = str(tmp_path / "deep" / "answers.jsonl")
    first = chat(server, cache=cache)
    said = ChatSampler(first).sample([*PROMPTS, PROMPTS[0]], 2)
    assert first.spent == {"asked": 14, "kept": 0, "prompt_tokens": 98, "completion_tokens": 28}
    again = chat(server, cache=cache)
    assert ChatSampler(again).sample([*PROMPTS, PROMPTS[0]], 2) == said
    assert again.spent == {"kept": 14}
    for other in ({"model": "n"}, {"temperature": 0.5}, {"max_tokens": 5}, {"seed": 9}, {"extra": {"k": 1}}):
        asks = chat(server, cache=cache, **other)
        ChatSampler(asks).sample(PROMPTS[:1])
        assert asks.spent["asked"] == 1
    assert oct(os.stat(cache).st_mode & 0o777) == "0o600"


def test_answers_of_one_server_are_not_those_of_another(server, tmp_path):
    cache = str(tmp_path / "answers.jsonl")
    ChatSampler(chat(server, cache=cache)).sample(PROMPTS[:1])
    with chat_server(lambda said: completion("other")) as other:
        assert ChatSampler(chat(other, cache=cache)).sample(PROMPTS[:1])[0][0].text == "other"


def test_a_torn_line_is_asked_for_again_wherever_it_was_torn(server, tmp_path):
    cache = tmp_path / "answers.jsonl"
    ChatSampler(chat(server, cache=str(cache), parallel=1)).sample(PROMPTS[:2])
    whole = cache.read_bytes()
    second = whole.index(b"\n") + 1
    for cut in (0, 1, second // 2, second - 1, second, second + 9, len(whole) - 1):
        cache.write_bytes(whole[:cut])
        asks = chat(server, cache=str(cache), parallel=1)
        found = ChatSampler(asks).sample(PROMPTS[:2])
        assert [row[0].text for row in found] == ["re: q0", "re: q1"]
        assert asks.spent["asked"] == 2 - (cut >= second - 1) - (cut >= len(whole) - 1)  # but for line ends
        once_more = chat(server, cache=str(cache))
        ChatSampler(once_more).sample(PROMPTS[:2])
        assert once_more.spent["asked"] == 0


def test_a_file_of_something_else_is_not_written_into(tmp_path):
    (tmp_path / "accord.toml").write_text("[sample]\nn = 3\n")
    with pytest.raises(DataError, match="none of its 2 lines"):
        AnswerFile(tmp_path / "accord.toml")
    assert (tmp_path / "accord.toml").read_text() == "[sample]\nn = 3\n"
    with pytest.raises(ConfigError, match="name another cache"):
        AnswerFile(tmp_path)


def test_a_server_that_goes_down_loses_nothing_that_was_paid(server, tmp_path):
    cache = str(tmp_path / "answers.jsonl")
    server.told += [(200, {}, None)] * 3 + [(503, {}, "down")] * 99
    with pytest.raises(ModelError, match="no answers in 2 tries"):
        ChatSampler(chat(server, cache=cache, parallel=1, tries=2)).sample(PROMPTS)
    server.told.clear()
    asks = chat(server, cache=cache)
    ChatSampler(asks).sample(PROMPTS)
    assert (asks.spent["kept"], asks.spent["asked"]) == (3, 3)


RUN = """
import sys
from accord.chat import Chat, ChatConfig, ChatSampler
from accord.types import Prompt

config = ChatConfig(url=sys.argv[1], model="m", cache=sys.argv[2], parallel=1, pause=0.01)
found = ChatSampler(Chat(config)).sample([Prompt.from_text(f"q{i}") for i in range(12)])
print([row[0].text for row in found])
"""


def test_a_run_that_is_killed_pays_for_each_answer_once(tmp_path):
    paid: Counter[str] = Counter()
    kills, running = [3, 7], []

    def should(said: str) -> str:
        if kills and len(paid) == kills[0]:
            kills.pop(0)
            running[-1].kill()  # before the answer, which nobody gets then
            running[-1].wait()
        else:
            paid[said] += 1
        return completion(f"re: {said}")

    source = os.pathsep.join([str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    with chat_server(should) as server:
        command = [sys.executable, "-c", RUN, server.url, str(tmp_path / "answers.jsonl")]
        for end in (-signal.SIGKILL, -signal.SIGKILL, 0):
            env = {**os.environ, "PYTHONPATH": source}
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env))
            out = running[-1].communicate(timeout=300)[0]
            assert running[-1].returncode == end
    assert out.splitlines()[-1] == str([f"re: q{i}" for i in range(12)])
    assert paid == {f"q{i}": 1 for i in range(12)}
