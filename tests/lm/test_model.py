"""Models load, save and come back as they were; what is not a sound model is refused."""

import json
import logging
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from accord.errors import ModelError
from accord.lm.dropout import dropout_rates
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import Kind, LanguageModel
from accord.lm.score import score_tokens
from accord.lm.tiny import DECODERS, ENCODER_DECODERS, END, EOS, write_tiny
from accord.lm.tokens import TokenBatch

BATCH = TokenBatch.of([[10, 11, 12], [20], [30, 31]], [[40, 41], [42, 43, 44, 45], [46, 1]], 0)


def logprobs(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return score_tokens(lm, BATCH).logprobs


def train_a_little(lm: LanguageModel) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in lm.trainable():
            p.add_(0.05 * torch.randn(p.shape, generator=generator).to(p.dtype))


@pytest.mark.parametrize("model_type", DECODERS + ENCODER_DECODERS)
def test_scores_are_those_of_transformers(folder, load, model_type):
    auto = AutoModelForSeq2SeqLM if model_type in ENCODER_DECODERS else AutoModelForCausalLM
    net = auto.from_pretrained(folder(model_type)).eval()
    lm = load(model_type)
    assert lm.kind is (Kind.ENCODER_DECODER if model_type in ENCODER_DECODERS else Kind.DECODER)
    assert lm.eos_ids == {EOS, END}
    prompt, answer = [20], [42, 43, 44, 45]
    if model_type in ENCODER_DECODERS:
        start = net.config.decoder_start_token_id
        logits = net(
            input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *answer[:-1]]])
        ).logits[0]
    else:
        logits = net(input_ids=torch.tensor([prompt + answer])).logits[0, :-1]
    expected = logits.log_softmax(-1)[torch.arange(4), torch.tensor(answer)]
    torch.testing.assert_close(logprobs(lm)[1], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("model_type", DECODERS + ENCODER_DECODERS)
def test_every_way_of_saving_comes_back_to_the_bit(load, tmp_path, model_type):
    lm = load(model_type)
    weights, plain = lm.weights_hash(), logprobs(lm)
    lm.save(tmp_path / "base")
    base = LanguageModel.load(tmp_path / "base")
    assert base.weights_hash() == weights
    assert base.adapter_hash() is None
    assert base.eos_ids == lm.eos_ids
    assert torch.equal(logprobs(base), plain)

    lm.add_lora(rank=3, seed=1)
    assert lm.weights_hash() == weights
    assert torch.equal(logprobs(lm), plain)
    train_a_little(lm)
    tuned = logprobs(lm)
    assert not torch.equal(tuned, plain)
    with lm.adapters_off():
        assert torch.equal(logprobs(lm), plain)

    lm.save(tmp_path / "lora")
    lora = LanguageModel.load(tmp_path / "lora")
    assert (lora.weights_hash(), lora.adapter_hash()) == (weights, lm.adapter_hash())
    assert torch.equal(logprobs(lora), tuned)
    assert {id(p) for p in lora.trainable()} == {
        id(p) for name, p in lora.net.named_parameters() if "lora_" in name
    }

    lm.save(tmp_path / "merged", merge=True)
    merged = LanguageModel.load(tmp_path / "merged")
    assert merged.peft is None
    torch.testing.assert_close(logprobs(merged), tuned, atol=1e-4, rtol=0)
    assert torch.equal(logprobs(lm), tuned)  # saving changed nothing in memory
    merged.save(tmp_path / "again")
    assert LanguageModel.load(tmp_path / "again").weights_hash() == merged.weights_hash()


@pytest.mark.parametrize("model_type", ["llama", "t5"])
def test_bfloat16_comes_back_to_the_bit(load, tmp_path, model_type):
    lm = load(model_type, dtype="bfloat16")
    assert lm.net.dtype is torch.bfloat16
    lm.add_lora(seed=2)
    train_a_little(lm)
    lm.save(tmp_path)
    back = LanguageModel.load(tmp_path, dtype="bfloat16")
    assert (back.weights_hash(), back.adapter_hash()) == (lm.weights_hash(), lm.adapter_hash())
    assert torch.equal(logprobs(back), logprobs(lm))
    assert float((logprobs(lm) - logprobs(load(model_type))).abs().max()) > 0


def test_a_merged_save_does_not_keep_an_earlier_saves_adapter(load, tmp_path):
    lm = load("llama")
    lm.add_lora()
    train_a_little(lm)
    lm.save(tmp_path)
    lm.save(tmp_path, merge=True)
    back = LanguageModel.load(tmp_path)
    assert back.peft is None
    torch.testing.assert_close(logprobs(back), logprobs(lm), atol=1e-4, rtol=0)


def test_a_model_can_be_saved_over_the_folder_it_came_from(folder, tmp_path):
    shutil.copytree(folder("llama"), tmp_path, dirs_exist_ok=True)
    lm = LanguageModel.load(tmp_path)
    assert all(p.data_ptr() % 64 == 0 for p in lm.net.parameters())
    train_a_little(lm)
    expected = logprobs(lm)
    lm.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert torch.equal(logprobs(lm), expected)


@pytest.mark.parametrize("model_type", ["llama", "t5", "bart"])
def test_the_frozen_copy_stays_behind(load, model_type):
    lm = load(model_type)
    before = logprobs(lm)
    reference = lm.frozen_copy()
    train_a_little(lm)
    assert not torch.equal(logprobs(lm), before)
    assert torch.equal(logprobs(reference), before)
    assert reference.trainable() == []
    assert len(lm.trainable()) > 0


def test_lora_trains_adapters_alone_and_repeats_for_a_seed(load):
    one, two, other = load("gpt2"), load("gpt2"), load("gpt2")
    state = torch.get_rng_state()
    one.add_lora(seed=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    two.add_lora(seed=5)
    other.add_lora(seed=6)
    assert one.adapter_hash() == two.adapter_hash() != other.adapter_hash()
    assert all("lora_" in name for name, p in one.net.named_parameters() if p.requires_grad)
    assert not any("lora_" in name for name, _ in one.net.get_output_embeddings().named_parameters())
    with pytest.raises(ModelError, match="adapters already"):
        one.add_lora()


@pytest.mark.parametrize("model_type", ["gpt2", "bart", "t5", "llama"])
def test_dropout_is_silenced_wherever_it_hides(load, model_type):
    lm = load(model_type, attention_dropout=0.1) if model_type == "llama" else load(model_type)
    assert dropout_rates(lm.net) == []
    lm.net.train()
    assert torch.equal(logprobs(lm), logprobs(lm))


def test_an_adapter_with_dropout_is_silenced_too(load, folder, tmp_path):
    shutil.copytree(folder("llama"), tmp_path, dirs_exist_ok=True)
    net = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = LoraConfig(lora_dropout=0.2, target_modules="all-linear")
    get_peft_model(net, config).save_pretrained(tmp_path / "adapter")
    lm = LanguageModel.load(tmp_path)
    assert dropout_rates(lm.net) == []
    lm.net.train()
    assert torch.equal(logprobs(lm), logprobs(lm))


@pytest.mark.parametrize("options", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}])
def test_an_adapter_on_the_output_head_is_refused(folder, tmp_path, options):
    shutil.copytree(folder("llama"), tmp_path, dirs_exist_ok=True)
    net = AutoModelForCausalLM.from_pretrained(tmp_path)
    config = LoraConfig(**{"target_modules": ["q_proj"], **options})
    get_peft_model(net, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="output head"):
        LanguageModel.load(tmp_path)


def test_a_lost_head_is_refused(folder, tmp_path):
    shutil.copytree(folder("llama"), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lm_head\.weight.*random"):
        LanguageModel.load(tmp_path)


def test_weights_of_another_shape_are_refused(folder, tmp_path):
    shutil.copytree(folder("llama"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(ModelError, match="no language model could be loaded"):
        LanguageModel.load(tmp_path)


def test_a_head_with_a_step_accord_does_not_know_is_refused(load, monkeypatch):
    lm = load("gemma2")
    monkeypatch.setattr(LanguageModel, "logits", lambda self, h: self.net.get_output_embeddings()(h))
    with pytest.raises(ModelError, match="output head has a step"):
        LanguageModel(lm.net, lm.tokenizer, "capless")


def test_no_folder_and_no_end_token(tmp_path, load):
    with pytest.raises(ModelError, match="nowhere"):
        LanguageModel.load(tmp_path / "nowhere")
    lm = load("llama")
    lm.net.generation_config.eos_token_id = lm.net.config.eos_token_id = None
    lm.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no eos token"):
        LanguageModel(lm.net, lm.tokenizer, "endless")


def test_a_tokenizer_without_pad_needs_none(load):
    lm = load("llama")
    lm.tokenizer.pad_token = None
    again = LanguageModel(lm.net, lm.tokenizer, "padless")
    assert 0 <= again.pad_id < lm.net.config.vocab_size
    assert torch.equal(logprobs(again), logprobs(lm))


def test_context_is_known_where_positions_are_absolute(load):
    assert (load("gpt2").context, load("bart").context, load("t5").context) == (512, 512, None)


def test_loading_and_training_is_quiet(folder, tmp_path, caplog, recwarn):
    """No warning a user would have to look up."""
    logger = logging.getLogger("transformers")  # it does not propagate to the root
    logger.addHandler(caplog.handler)
    try:
        for model_type in ("gpt2", "llama", "t5"):
            lm = LanguageModel.load(folder(model_type))
            lm.add_lora(rank=2)
            logprobs(lm)
            Engine(lm, SamplingConfig(max_new_tokens=2)).generate([[10, 11, 0], [0]])
            lm.save(tmp_path / model_type)
            LanguageModel.load(tmp_path / model_type)
    finally:
        logger.removeHandler(caplog.handler)
    assert [str(w.message) for w in recwarn] == []
    assert caplog.messages == []


def test_tiny_models_repeat_for_a_seed(tmp_path):
    one, two = (LanguageModel.load(write_tiny(tmp_path / x, "llama", seed=4)) for x in "ab")
    other = LanguageModel.load(write_tiny(tmp_path / "c", "llama", seed=5))
    assert one.weights_hash() == two.weights_hash() != other.weights_hash()
    with pytest.raises(ModelError, match="mamba"):
        write_tiny(tmp_path / "d", "mamba")


def test_a_pad_token_behind_the_embeddings_is_never_read(load, tmp_path):
    lm = load("llama")
    batch = TokenBatch.of([[10, 11, 12], [20]], [[40], [41, 42, 43]], lm.pad_id)
    with torch.no_grad():
        expected = lm.hidden(batch)
        lm.tokenizer.add_special_tokens({"pad_token": "<beyond>"})
        assert lm.tokenizer.pad_token_id >= lm.net.config.vocab_size
        other = LanguageModel(lm.net, lm.tokenizer, "beyond")
        batch = TokenBatch.of([[10, 11, 12], [20]], [[40], [41, 42, 43]], other.pad_id)
        assert torch.equal(other.hidden(batch)[batch.mask_BT], expected[batch.mask_BT])
