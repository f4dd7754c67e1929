"""TRL's half of the parity tests, run by .venv-trl's python: ``python trl_side.py OUT.npz``.

TRL's PPO writes its rewards, GAE and losses inline in ``PPOTrainer.train``. So the real trainer runs
on tiny models, unchanged, and each time it calls ``accelerator.backward`` this script reads the
tensors out of the calling frame. The reward trainer's loss is captured in the same spirit.
"""

import copy
import os
import sys
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.ppo import PPOConfig, PPOTrainer
from trl.experimental.ppo.ppo_trainer import masked_mean, masked_var, masked_whiten

VOCABULARY = 17
PAD = VOCABULARY  # outside the policy's vocabulary: a sampled pad would end a row for TRL
STEP_TENSORS = ("logprobs", "ref_logprobs", "scores", "values", "rewards", "advantages", "returns", "kl")
MASKS = ("padding_mask", "padding_mask_p1")
MICRO_TENSORS = ("new_logprobs", "mb_logprobs", "mb_advantage", "vpred", "mb_values", "mb_return")
RESULTS = ("logits", "mb_responses", "pg_loss", "vf_loss", "loss")


def tokenizer():
    words = {"w0": 0, "</s>": 1, "<pad>": PAD} | {f"w{i}": i for i in range(2, VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", padding_side="left"
    )


def config(**more):
    return LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=1,
        **({"vocab_size": VOCABULARY} | more),
    )


def ppo(out, name, folder, **settings):
    """One PPO step of TRL with a captured frame a micro-batch, as ``name/call/tensor``."""
    torch.manual_seed(0)
    lengths = [5, 3, 4, 5, 2, 5, 4, 3] if settings.get("stop_token") else [5] * 8
    prompts = [{"input_ids": torch.randint(2, VOCABULARY, (length,)).tolist()} for length in lengths]
    args = PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        total_episodes=8,
        num_ppo_epochs=4,
        response_length=12,
        learning_rate=0.03,
        num_sample_generations=0,
        kl_coef=0.1,
        gamma=0.97,
        lam=0.9,
        cliprange=0.2,
        cliprange_value=0.2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        seed=0,
        **settings,
    )
    trainer = PPOTrainer(
        args=args,
        processing_class=tokenizer(),
        model=LlamaForCausalLM(config()),
        ref_model=LlamaForCausalLM(config()),
        reward_model=LlamaForSequenceClassification(config(num_labels=1)),
        value_model=LlamaForSequenceClassification(config(num_labels=1)),
        train_dataset=Dataset.from_list(prompts),
        eval_dataset=Dataset.from_list(prompts),
    )
    calls = []
    backward = trainer.accelerator.backward

    def capture(loss, **kwargs):
        frame = sys._getframe(1).f_locals
        kept = {key: frame[key].detach().clone() for key in (*STEP_TENSORS, *MASKS, *MICRO_TENSORS, *RESULTS)}
        kept["rows"] = torch.as_tensor(frame["micro_batch_inds"].copy())
        kept["policy_gradient"], kept["value_gradient"] = torch.autograd.grad(
            loss, (frame["new_logprobs"], frame["vpred"]), retain_graph=True
        )
        calls.append(kept)
        backward(loss, **kwargs)

    trainer.accelerator.backward = capture
    trainer.train()
    for number, kept in enumerate(calls):
        out.update({f"{name}/{number}/{key}": tensor.numpy() for key, tensor in kept.items()})


def reward(out, name, folder, **settings):
    """One batch through TRL's reward trainer, its rewards taken from the model's own output."""
    torch.manual_seed(0)
    margins = {"margin": [0.1, 0.5, 0.0, 1.0, 0.3, 0.2]} if settings.pop("margin") else {}
    chosen, rejected = ([torch.randint(2, VOCABULARY, (4 + i,)).tolist() for i in range(6)] for _ in range(2))
    trainer = RewardTrainer(
        model=LlamaForSequenceClassification(config(num_labels=1, vocab_size=PAD + 1, pad_token_id=PAD)),
        args=RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=6,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            **settings,
        ),
        processing_class=tokenizer(),
        train_dataset=Dataset.from_dict({"chosen_ids": chosen, "rejected_ids": rejected, **margins}),
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    if margins:
        out[f"{name}/margin"] = inputs["margin"].numpy()
    loss, outputs = trainer.compute_loss(trainer.model, copy.copy(inputs), return_outputs=True)
    rewards = outputs.logits.detach().squeeze(-1)
    (gradient,) = torch.autograd.grad(loss, outputs.logits)
    out[f"{name}/chosen"], out[f"{name}/rejected"] = (part.numpy() for part in rewards.chunk(2))
    out[f"{name}/loss"], out[f"{name}/gradient"] = loss.detach().numpy(), gradient.squeeze(-1).numpy()
    out[f"{name}/accuracy"] = np.array(trainer._metrics["train"]["accuracy"][-1])


def grouped(out, name, folder, trainer_class, **settings):
    """Two passes of GRPO or RLOO over one batch of samples, as ``name/call/tensor``."""
    torch.manual_seed(0)
    words = [" ".join(f"w{i}" for i in torch.randint(2, VOCABULARY, (n,)).tolist()) for n in (5, 3, 4, 2)]
    given = {}

    def rewards(completion_ids, **_):
        given["rewards"] = [len(ids) / 3 + ids[0] for ids in completion_ids]
        return given["rewards"]

    config_class = GRPOConfig if trainer_class is GRPOTrainer else RLOOConfig
    base = f"{folder}/{name}"  # the trainer loads its reference from where the model came from
    LlamaForCausalLM(config(vocab_size=PAD + 1)).save_pretrained(base)
    tokenizer().save_pretrained(base)
    trainer = trainer_class(
        model=base,
        reward_funcs=rewards,
        args=config_class(
            output_dir=folder,
            per_device_train_batch_size=16,
            num_generations=4,
            num_iterations=2,
            max_completion_length=8,
            learning_rate=0.03,
            beta=0.1,
            max_steps=2,
            temperature=1.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            seed=0,
            **settings,
        ),
        processing_class=tokenizer(),
        train_dataset=Dataset.from_list([{"prompt": text} for text in words]),
    )
    seen, calls = {}, []
    score, compute = trainer._get_per_token_logps_and_entropies, trainer._compute_loss

    def scored(*args, **kwargs):
        found = score(*args, **kwargs)
        seen["logps"] = found[0]
        return found

    def computed(model, inputs):
        loss = compute(model, inputs)
        logps = seen["logps"]
        (gradient,) = torch.autograd.grad(loss, logps, retain_graph=True)
        kept = {"logps": logps, "loss": loss, "gradient": gradient, "rewards": torch.tensor(given["rewards"])}
        names = ("completion_mask", "advantages", "old_per_token_logps", "old_logps", "ref_per_token_logps")
        kept |= {key: inputs[key] for key in names if inputs.get(key) is not None}
        calls.append({key: value.detach().clone() for key, value in kept.items()})
        return loss

    trainer._get_per_token_logps_and_entropies, trainer._compute_loss = scored, computed
    trainer.train()
    for number, kept in enumerate(calls):
        out.update({f"{name}/{number}/{key}": tensor.numpy() for key, tensor in kept.items()})


def statistics(out):
    """TRL's masked functions on random tensors."""
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(6, 9, generator=generator) + 2
    mask = torch.arange(9) < torch.tensor([[9], [1], [4], [9], [6], [2]])
    out["statistics/x"], out["statistics/mask"] = x.numpy(), mask.numpy()
    out["statistics/mean"] = masked_mean(x, mask).numpy()
    out["statistics/var"] = masked_var(x, mask).numpy()
    out["statistics/white"] = (masked_whiten(x, mask) * mask).numpy()


def main(path):
    out = {}
    statistics(out)
    with tempfile.TemporaryDirectory() as folder:
        ppo(out, "full", folder, temperature=0.7)
        ppo(out, "ragged", folder, temperature=1.3, stop_token="eos", missing_eos_penalty=1.0)
        ppo(out, "scaled", folder, temperature=1.0, whiten_rewards=True)
        ppo(out, "k3", folder, temperature=1.0, kl_estimator="k3")
        grouped(out, "grpo", folder, GRPOTrainer, loss_type="grpo")
        grouped(out, "dr-grpo", folder, GRPOTrainer, loss_type="dr_grpo", scale_rewards="none")
        grouped(out, "gspo", folder, GRPOTrainer, loss_type="grpo", importance_sampling_level="sequence",
                epsilon=3e-4, epsilon_high=3e-4)  # fmt: skip
        grouped(out, "cispo", folder, GRPOTrainer, loss_type="cispo", epsilon_high=1.1)
        grouped(out, "rloo", folder, RLOOTrainer)
        reward(out, "reward", folder, margin=False)
        reward(out, "centred", folder, margin=True, center_rewards_coefficient=0.01)
    np.savez(path, **out)


if __name__ == "__main__":
    main(sys.argv[1])
