"""Episodes: tokens in and out, who said what, what ends them, and that they are learned from."""

import json
from dataclasses import replace

import pytest
import torch

from accord.align.episodes import play
from accord.align.learner import Learner
from accord.align.online import act, credit, learn
from accord.align.run import align
from accord.align.signals import own_texts
from accord.environment import Environment, Turn
from accord.errors import ConfigError, NumericsError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.score import score_tokens
from accord.lm.tiny import END, EOS, write_tiny
from accord.lm.tokens import TokenBatch
from accord.lm.turns import words_ids
from accord.types import Score, Stop
from toys import PROMPTS, VOCABULARY, ShareOfGood, run_config

KINDS = ["llama", "gpt2", "t5", "bart"]


class Talk:
    """Answers ``length`` times with a word by its own chance and pays 1, 2, 3, ...; keeps what it heard."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.heard: list[str] = []

    def begin(self, prompt, seed):
        turn, chance = 0, torch.Generator().manual_seed(seed)

        def answer(text):
            nonlocal turn
            turn += 1
            self.heard.append(text)
            words = '"!' * int(torch.randint(1, 4, (), generator=chance))
            return Turn(words, float(turn), over=turn == self.length)

        return answer


def engine_of(model, **settings):
    return Engine(model, SamplingConfig(**({"max_new_tokens": 12, "seed": 5} | settings)))


def parts(rollout):
    """(mask, ids) of each stretch said by one side."""
    found = []
    for own, token in zip(rollout.mask, rollout.ids, strict=True):
        if not found or found[-1][0] != own:
            found.append((own, []))
        found[-1][1].append(token)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_one_turn_is_a_completion_to_the_bit(toy, kind):
    engine = engine_of(toy(kind))
    played = play(engine, [*PROMPTS, PROMPTS[0]], 3, 7, environment=Talk(1))
    told = act(engine, [*PROMPTS, PROMPTS[0]], 3, 7)
    for one, other in zip(played, told, strict=True):
        assert (one.ids, one.logprobs, one.mask, one.stop) == (
            other.ids,
            other.logprobs,
            other.mask,
            other.stop,
        )
        assert one.text.split("\n")[0] == other.text
        assert sum(one.paid) == (one.stop is Stop.EOS)
        assert one.policy_version == 7


@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_and_the_trainer_agree_on_every_token_of_the_policy(toy, kind):
    policy = toy(kind)
    learner = Learner(policy, run_config(max_new_tokens=12, minibatch=8))
    rollouts = play(learner.engine(0), PROMPTS, 4, environment=Talk(4))
    assert max(len(parts(r)) for r in rollouts) == 7  # four turns, three answers between
    batch = credit(learner, rollouts, [Score(0.0)] * len(rollouts))
    assert batch.metrics["sampler_gap"] < 1e-4
    assert batch.metrics["kl"] == pytest.approx(0, abs=1e-5)
    assert learn(learner, batch, 0)["first_ratio"] == pytest.approx(1, abs=1e-5)
    # by the scorer alone, each rollout by itself, so that nothing of the batch helps
    for rollout in rollouts[:6]:
        alone = TokenBatch.of([rollout.prompt_ids], [rollout.ids], policy.pad_id, [rollout.mask])
        scored = score_tokens(toy(kind), alone).logprobs[0]
        assert torch.allclose(scored, torch.tensor(rollout.logprobs), atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_the_sets_that_tokens_were_chosen_among_are_kept_through_an_episode(toy, kind):
    learner = Learner(
        toy(kind), run_config(algorithm="nlpo", max_new_tokens=12, minibatch=8, mask_top_p=0.95)
    )
    rollouts = play(learner.engine(0), PROMPTS, 4, environment=Talk(3))
    assert max(len(parts(r)) for r in rollouts) == 5
    batch = credit(learner, rollouts, [Score(0.0)] * len(rollouts))
    assert batch.metrics["sampler_gap"] < 1e-4
    assert learn(learner, batch, 0)["first_ratio"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_words_of_the_environment_are_its_own_and_are_paid_to_the_turn_before(toy, kind):
    policy = toy(kind)
    rollouts = play(engine_of(policy), PROMPTS, 6, environment=Talk(3))
    turns = [parts(r) for r in rollouts]
    assert {len(t) for t in turns} >= {3, 5}
    for rollout, stretches in zip(rollouts, turns, strict=True):
        assert [own for own, _ in stretches] == [1, 0, 1, 0, 1][: len(stretches)]
        for own, ids in stretches:
            if not own:
                assert ids in [words_ids(policy.tokenizer, '"!' * n) for n in (1, 2, 3)]
            elif rollout.stop is Stop.EOS or ids is not stretches[-1][1]:
                assert ids[-1] in (EOS, END)
        assert all(
            logprob == 0 for logprob, own in zip(rollout.logprobs, rollout.mask, strict=True) if not own
        )
        paid = [(at, pay) for at, pay in enumerate(rollout.paid) if pay]
        finished = sum(own for own, ids in stretches if ids[-1] in (EOS, END))
        assert [pay for _, pay in paid] == [1.0, 2.0, 3.0][:finished]
        ends = [at for at, own in enumerate(rollout.mask) if own and not (*rollout.mask, 0)[at + 1]]
        assert [at for at, _ in paid] == ends[:finished]
        said = [policy.tokenizer.decode(ids, skip_special_tokens=True) for _, ids in stretches]
        assert rollout.text.split("\n")[: len(said)] == said


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_does_not_depend_on_those_it_is_played_with(toy, kind):
    def of(prompts, samples, rows=256):
        found = play(engine_of(toy(kind), rows=rows), prompts, samples, environment=Talk(4))
        return [(r.prompt.id, r.ids, r.paid, r.text) for r in found]

    together = of(PROMPTS, 3)
    assert together == [row for prompt in PROMPTS for row in of([prompt], 3)]
    assert together == of(PROMPTS, 3, rows=2)
    assert of(PROMPTS[::-1], 1)[::-1] == together[::3]
    assert len({row[1:] for row in together}) == len(together)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_an_environment_that_never_ends_is_cut(toy, kind):
    rollouts = play(engine_of(toy(kind), max_new_tokens=40), PROMPTS, 4, environment=Talk(None), turns=3)
    assert {r.stop for r in rollouts} == {Stop.LENGTH}
    most = [len(parts(r)) for r in rollouts]
    assert max(most) == 5  # the last answer is not read by anybody
    for rollout in rollouts:
        assert rollout.mask[-1] == 1
        if len(parts(rollout)) == 5 and rollout.ids[-1] in (EOS, END):
            assert rollout.paid[-1] == 3.0  # and still pays


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_an_episode_is_cut_where_the_context_has_no_room_for_another_turn(tmp_path, kind):
    model = LanguageModel.load(write_tiny(tmp_path, kind, vocab_size=VOCABULARY, max_position_embeddings=48))
    new = 10
    rollouts = play(engine_of(model, max_new_tokens=new), PROMPTS, 32, environment=Talk(None))
    cut = [r for r in rollouts if r.ids[-1] in (EOS, END)]
    assert len(cut) > 2
    sizes = [len(r.ids) + (len(r.prompt_ids) if kind == "llama" else 0) for r in cut]
    assert {r.stop for r in rollouts} == {Stop.LENGTH}
    assert max(sizes) <= 48
    # one more answer (2 to 6 tokens) and turn would not have fitted
    assert min(sizes) + 6 + new > 48


def test_a_turn_that_is_cut_is_not_shown_to_the_environment(toy):
    environment = Talk(None)
    rollouts = play(engine_of(toy(), max_new_tokens=1), PROMPTS, 8, environment=environment, turns=1)
    cut = [r for r in rollouts if r.ids[-1] not in (EOS, END)]
    assert cut
    assert all(r.stop is Stop.LENGTH and not r.paid for r in cut)
    assert environment.heard == [""] * (len(rollouts) - len(cut))


def test_pay_that_is_no_number_is_named(toy):
    class Broken(Talk):
        def begin(self, prompt, seed):
            answer = super().begin(prompt, seed)
            return lambda text: replace(answer(text), paid=float("nan"))

    with pytest.raises(NumericsError, match=r"the environment paid nan for the turn .* Mend the environment"):
        play(engine_of(toy()), PROMPTS, 6, environment=Broken(3))


def test_what_cannot_be_meant_is_refused(toy):
    model = toy()
    assert isinstance(Talk(1), Environment)
    with pytest.raises(ConfigError, match="turns is 0"):
        play(engine_of(model), PROMPTS, environment=Talk(1), turns=0)
    for settings in ({"top_k": 2}, {"top_p": 0.9}, {"temperature": 0}):
        with pytest.raises(ConfigError, match="whole distribution"):
            play(engine_of(model, **settings), PROMPTS, environment=Talk(1))
        assert play(engine_of(model, **settings), PROMPTS, environment=Talk(1), training=False)


def test_a_run_is_paid_by_its_environment_and_goes_on_to_the_same_bits(toy, tmp_path):
    def run(folder, steps=None, scorer=None, resume=False):
        def stop(metrics):
            if metrics["step"] == steps:
                raise KeyboardInterrupt

        return align(toy(), scorer, PROMPTS, run_config(), folder, environment=Talk(2), resume=resume,
                     save_every=1, progress=stop)  # fmt: skip

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", steps=3)
    again = run(tmp_path / "cut", resume=True)
    assert again.history == whole.history
    for name, tensor in whole.learner.tensors().items():
        assert torch.equal(tensor, again.learner.tensors()[name]), name
    # an episode of two turns is paid 1 and 2; a scorer's judgement is added to that
    rows = [json.loads(line) for line in (tmp_path / "whole" / "samples.jsonl").read_text().splitlines()]
    assert {row["score"] for row in rows} <= {0.0, 1.0, 3.0}
    judged = run(tmp_path / "judged", scorer=ShareOfGood())
    assert judged.history[0]["reward"] > whole.history[0]["reward"]


def test_what_the_policy_said_can_be_told_from_what_it_heard(toy):
    engine, talk = engine_of(toy()), Talk(2)
    played = play(engine, PROMPTS, 2, environment=talk)
    texts = own_texts(played, engine.decode)
    # a turn that runs into the limit is the policy's, and is not shown to the environment
    shown = [
        text.split("\n")[: None if r.stop is Stop.EOS else -1] for r, text in zip(played, texts, strict=True)
    ]
    assert sorted(turn for turns in shown for turn in turns) == sorted(talk.heard)
    assert any(len(turns) == 2 for turns in shown)
    assert not any('"!' in text for text in texts)
    assert any('"!' in rollout.text for rollout in played)


def test_a_run_that_nothing_pays_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match="neither a scorer nor an environment"):
        align(toy(), None, PROMPTS, run_config(), tmp_path)


class Echo:
    """Says one of two words after the first turn; paid half for hearing it, half for saying it back."""

    def begin(self, prompt, seed):
        word, told = '!"'[seed % 2], False

        def answer(text):
            nonlocal told
            if told:
                return Turn(paid=0.5 * (text[:1] == word), over=True)
            told = True
            return Turn(word, 0.5)

        return answer


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_what_an_environment_said_is_learned_to_be_used(toy, kind):
    """Best that can be paid is 1; without reading what the environment said, 0.75."""
    config = run_config(
        steps=100, prompts_per_step=4, samples_per_prompt=16, minibatch=64, epochs=4,
        max_new_tokens=2, lora_rank=0, learning_rate=3e-3, kl_target=None, truncation_penalty=0,
    )  # fmt: skip
    learner = Learner(toy(kind), config)
    rewards = []
    for step in range(config.steps):
        rollouts = play(learner.engine(step), PROMPTS[:4], config.samples, step, environment=Echo())
        batch = credit(learner, rollouts, [Score(0.0)] * len(rollouts))
        learn(learner, batch, step)
        rewards.append(batch.metrics["reward"])
        if rewards[-1] > 0.95:
            break
    assert rewards[0] < 0.3
    assert rewards[-1] > 0.9  # five standard errors above 0.75
