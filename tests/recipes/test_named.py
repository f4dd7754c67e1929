"""Models by name: a folder, URL#MODEL or a file; whichever it is, it writes and it judges."""

from __future__ import annotations

import math

import pytest
from scipy import special

from accord.errors import ConfigError
from accord.judging import Asked, LikelihoodConfig, both_orders
from accord.lm.engine import SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny
from accord.recipes.likelihoods import ModelLikelihoods
from accord.recipes.named import chooser_of, remote_model, sampler_of
from accord.types import Prompt
from accord.workspace import Workspace

pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
from chatting import chat_server, choose, completion

PAIR = Asked(Prompt.from_text("Where is it?"), "It left today.", "Go away.")


def test_a_folder_writes_and_judges(tmp_path):
    folder = str(write_tiny(tmp_path / "tiny", chat=True))
    sampler, one = sampler_of(folder, SamplingConfig(max_new_tokens=3))
    chooser, two = chooser_of(folder, LikelihoodConfig())
    assert len(sampler.sample([PAIR.prompt], 2)[0]) == 2
    assert chooser.choose([PAIR])[0].p_first is not None
    assert two == f"judge:{one}"


def test_a_url_writes_and_judges_and_its_answers_are_kept_in_the_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_API_KEY", "key-1")
    workspace = Workspace.create(tmp_path / "desk")
    with chat_server(lambda said: choose(0.8) if "Answer A" in said else completion("hm")) as server:
        name = f"{server.url}#small"
        sampler, one = sampler_of(name, SamplingConfig(max_new_tokens=3, seed=4, top_p=0.5), None, workspace)
        chooser, two = chooser_of(name, LikelihoodConfig(criterion="kinder"), None, workspace)
        assert sampler.sample([PAIR.prompt])[0][0].text == "hm"
        assert chooser.choose([PAIR])[0].p_first == pytest.approx(0.8)
        wrote, judged = [body for _, body in server.asked]
        assert {headers["Authorization"] for headers, _ in server.asked} == {"Bearer key-1"}
    assert (wrote["model"], wrote["max_tokens"], wrote["seed"], wrote["top_p"]) == ("small", 3, 4, 0.5)
    assert (judged["temperature"], "kinder" in str(judged)) == (0, True)
    assert len((tmp_path / "desk" / "answers.jsonl").read_text().splitlines()) == 2
    assert one.startswith(name)
    assert two.startswith(f"judge:{name}")


def test_a_file_says_more_and_its_word_holds(tmp_path):
    with chat_server(lambda said: completion("It is kind.\nAnswer: B")) as server:
        file = tmp_path / "judge.toml"
        file.write_text(
            f'url = "{server.url}"\nmodel = "m"\nreason = true\ntop_logprobs = 0\nmax_tokens = 77\n'
        )
        chooser, one = chooser_of(str(file), LikelihoodConfig())
        assert chooser.choose([PAIR])[0].p_first == 0.0
        sampler, _ = sampler_of(str(file), SamplingConfig(max_new_tokens=3))
        sampler.sample([PAIR.prompt])
        bodies = [body for _, body in server.asked]
    assert [body["max_tokens"] for body in bodies] == [77, 77]
    assert "logprobs" not in bodies[0]
    file.write_text(file.read_text().replace("77", "78"))
    assert chooser_of(str(file), LikelihoodConfig())[1] != one
    file.write_text(file.read_text() + "tries = 9\n")
    assert chooser_of(str(file), LikelihoodConfig())[1] == chooser_of(str(file), LikelihoodConfig())[1]


@pytest.mark.parametrize(
    ("name", "error"),
    [("https://models.example.org/v1", "which model"), ("missing.toml", "cannot be read"),
     ("bad.toml", "not TOML"), ("key.toml", "did you mean 'model'"), ("", "no judge is named")],
)  # fmt: skip
def test_a_name_that_says_too_little_is_refused(tmp_path, monkeypatch, name, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("url = ")
    (tmp_path / "key.toml").write_text('url = "https://x.example.org"\nmodle = "m"\n')
    with pytest.raises(ConfigError, match=error):
        chooser_of(name, LikelihoodConfig())


def test_what_the_protocol_has_no_word_for_is_refused():
    with pytest.raises(ConfigError, match=r"extra = \{ top_k = 5 \}"):
        sampler_of("https://models.example.org/v1#m", SamplingConfig(top_k=5))
    assert remote_model("https://models.example.org/v1#m").cache == ""


def test_a_judge_over_http_says_what_the_same_model_says_at_home(tmp_path):
    """accord's own model behind HTTP, in the official client's types: P(A) is the same to the last digits."""
    folder = str(write_tiny(tmp_path / "tiny", chat=True))
    likely = ModelLikelihoods(LanguageModel.load(folder))

    def should(said: str) -> str:
        (found,) = likely.logprobs([(Prompt.from_text(said), ["A", "B"])])
        p = {letter: math.exp(one.logprob) for letter, one in zip("AB", found, strict=True)}
        letter = max(p, key=p.__getitem__)
        return completion(letter, [(letter, p)])

    asked = [Asked(Prompt.from_text(f"q{i}"), "x" * i, "y") for i in range(1, 5)]
    with chat_server(should) as server:
        far = both_orders(chooser_of(f"{server.url}#tiny", LikelihoodConfig())[0], asked)
    near = both_orders(chooser_of(folder, LikelihoodConfig())[0], asked)
    assert [one.p for one in far] == pytest.approx([one.p for one in near], abs=1e-9)
    assert [one.flipped for one in far] == [one.flipped for one in near]
    assert all(0 < special.logit(one.as_listed.p_first) ** 2 < 100 for one in near)
