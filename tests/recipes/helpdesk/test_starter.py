"""The starter models as they lie in the package, and the script that makes them."""

import statistics
from pathlib import Path

import pytest
import torch

from accord.errors import ModelError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.render import completion_ids, prompt_ids, prompt_text
from accord.lm.tokens import TokenBatch
from accord.recipes.helpdesk import starter
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.world import conversations, make_prompts

HOLDOUT = make_prompts(24, 7, "holdout")


@pytest.fixture(scope="module", params=starter.KINDS)
def packaged(request) -> LanguageModel:
    return LanguageModel.load(starter.MODELS / request.param, device="cpu")


def test_both_fit_in_twelve_megabytes_and_have_cards():
    files = [f for kind in starter.KINDS for f in (starter.MODELS / kind).iterdir()]
    assert sum(f.stat().st_size for f in files) <= 12e6
    for kind in starter.KINDS:
        card = (starter.MODELS / kind / "README.md").read_text()
        assert "| fluent |" in card
        assert "simulated" in card


def test_ends_and_padding_are_told_apart(packaged):
    assert packaged.pad_id not in packaged.eos_ids
    assert packaged.net.generation_config.eos_token_id in packaged.eos_ids
    assert packaged.net.generation_config.pad_token_id == packaged.pad_id


def test_texts_survive_the_tokenizer_and_stay_short(packaged):
    encoder = packaged.net.config.is_encoder_decoder
    for prompt, reply in conversations(200, 8, "holdout"):
        ids = prompt_ids(packaged.tokenizer, prompt, packaged.template, encoder_decoder=encoder)
        assert len(ids) <= 75
        text = prompt_text(packaged.tokenizer, prompt, packaged.template)
        shown = packaged.tokenizer.decode(ids)
        assert shown.removesuffix(starter.EOS) == text
        answer = completion_ids(packaged.tokenizer, reply, packaged.template)
        assert len(answer) <= starter.MAX_NEW_TOKENS
        assert packaged.tokenizer.decode(answer) == reply + starter.EOS


def test_the_decoders_template_marks_turns():
    tokenizer = LanguageModel.load(starter.MODELS / "decoder", device="cpu").tokenizer
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "<|user|>Hi.<|assistant|>Hello.<|end|>"
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert asked == "<|user|>Hi.<|assistant|>"


def test_they_speak_fluently_and_often_badly_and_can_be_good(packaged):
    """A small sample of what the model card states; the card's figures come from more."""
    groups = Engine(packaged, SamplingConfig(max_new_tokens=64, seed=3)).sample(HOLDOUT, 12)
    scores = [GoldJudge().score(p, group) for p, group in zip(HOLDOUT, groups, strict=True)]
    flat = [score for group in scores for score in group]
    assert statistics.mean(s.parts["fluent"] for s in flat) >= 0.88
    assert 0.3 <= statistics.mean(s.value for s in flat) <= 0.65
    assert statistics.mean(max(s.value for s in group) for group in scores) >= 0.8


def test_reply_loss_counts_only_the_reply(packaged):
    """By hand: the mean of minus the log-probs of the reply's tokens, whatever the padding."""
    rows = [([5, 6, 7], [8, 9]), ([6, 5], [7, 8, 1])]
    batch = TokenBatch.of([p for p, _ in rows], [r for _, r in rows], packaged.pad_id)
    with torch.no_grad():
        together, _ = starter.reply_loss(packaged, batch)
        alone = [starter.reply_loss(packaged, TokenBatch.of([p], [r], packaged.pad_id))[0] for p, r in rows]
    assert float(together) == pytest.approx((2 * float(alone[0]) + 3 * float(alone[1])) / 5, rel=1e-4)


def test_a_starter_that_cannot_serve_is_refused():
    fine = {"fluent": 0.95, "hhh": 0.45, "best of 16": 0.9}
    starter.accept(fine, "decoder")
    for change in ({"fluent": 0.8}, {"hhh": 0.3}, {"hhh": 0.7}, {"best of 16": 0.8}):
        with pytest.raises(ModelError, match="not what the help desk needs"):
            starter.accept({**fine, **change}, "decoder")


@pytest.mark.slow
def test_the_script_is_deterministic(tmp_path: Path):
    short = starter.Recipe(steps=5, drill_steps=2, batch=8, tokenizer_texts=500)
    first, second = starter.train(short, "decoder")[0], starter.train(short, "decoder")[0]
    assert first.weights_hash() == second.weights_hash()
