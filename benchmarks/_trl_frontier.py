"""The peer's half of frontier.py: TRL 1.12's PPO, RLOO, GRPO and DPO trainers, run by .venv-trl's python.

Reads question.json and the reward model from the folder it is given, and leaves its policy's weights there
every few steps (look-NN.pt). The reward is accord's reward model read by transformers, standardised alike,
and a completion that was cut is fined 1, as accord fines it. Prompts come as text and must give the ids that
accord samples from. TRL's own defaults stand where accord's settings have no counterpart; its PPO has a value
model of its own, begun as the policy, since its critic cannot share a trunk.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

FINE = 1.0


class Looks(TrainerCallback):
    """Keeps the policy's weights every few optimiser steps that count."""

    def __init__(self, folder, every, policy):
        self.folder, self.every, self.policy = folder, every, policy

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            weights = {name: value.detach().clone() for name, value in self.policy.state_dict().items()}
            torch.save(weights, self.folder / f"look-{state.global_step:05d}.pt")


class Paid:
    """The reward of completions in token ids."""

    def __init__(self, folder, given, tokenizer):
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder / "reward", dtype=torch.float32
        )
        self.model.eval()
        self.given, self.end = given, tokenizer.eos_token_id

    @torch.no_grad()
    def __call__(self, prompts, completions):
        paid = []
        for prompt, ids in zip(prompts, completions, strict=True):
            ended = self.end in ids
            answer = ids[: ids.index(self.end)] if ended else ids
            row = torch.tensor([[*prompt, *answer, self.end]])
            reward = (float(self.model(input_ids=row).logits[0, 0]) - self.given["mean"]) / self.given["std"]
            paid.append(reward - (0.0 if ended else FINE))
        return paid


def shared(given, folder, **more):
    """Settings of every trainer."""
    return {
        "output_dir": str(folder / "out"),
        "learning_rate": given["rate"],
        "seed": given["seed"],
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "adam_epsilon": 1e-5,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    } | more


def ppo(given, folder, policy, tokenizer):
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    amounts = given["amounts"]
    reward = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32)
    with torch.no_grad():  # standardised; the mean is a constant, which whitening takes off
        reward.score.weight /= given["std"]
    value = AutoModelForSequenceClassification.from_pretrained(
        given["base"], num_labels=1, pad_token_id=tokenizer.pad_token_id, dtype=torch.float32
    )
    rows = Dataset.from_dict({"input_ids": given["ids"]})
    PPOTrainer(
        args=PPOConfig(
            **shared(given, folder),
            per_device_train_batch_size=amounts["rollouts"],
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            total_episodes=amounts["rollouts"] * amounts["steps"],
            local_rollout_forward_batch_size=amounts["rollouts"],
            num_ppo_epochs=given["passes"],
            response_length=amounts["new_tokens"],
            stop_token="eos",
            missing_eos_penalty=FINE,
            kl_coef=given["beta"],
            temperature=1.0,
            lam=1.0,
            num_sample_generations=0,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32),
        reward_model=reward,
        value_model=value,
        train_dataset=rows,
        eval_dataset=rows.select(range(min(len(rows), amounts["rollouts"]))),
        callbacks=[Looks(folder, amounts["look"], policy)],
    ).train()


def grouped(given, folder, policy, tokenizer):
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    amounts, paid = given["amounts"], Paid(folder, given, tokenizer)
    ids = dict(zip(given["prompts"], given["ids"], strict=True))

    def reward(prompts, completion_ids, **_):
        return paid([ids[text] for text in prompts], completion_ids)

    kinds = {"grpo": (GRPOTrainer, GRPOConfig, {"loss_type": "grpo"}), "rloo": (RLOOTrainer, RLOOConfig, {})}
    trainer, config, own = kinds[given["algorithm"]]
    # the trainer loads its reference from where the model came from
    made = trainer(
        model=given["base"],
        reward_funcs=reward,
        args=config(
            **shared(given, folder),
            **own,
            model_init_kwargs={"dtype": torch.float32},
            per_device_train_batch_size=amounts["rollouts"],
            num_generations=given["samples"],
            max_completion_length=amounts["new_tokens"],
            max_steps=amounts["steps"],
            beta=given["beta"],
            temperature=1.0,
            logging_strategy="no",
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": given["prompts"]}),
    )
    made.add_callback(Looks(folder, amounts["look"], made.model))
    made.train()


def dpo(given, folder, policy, tokenizer):
    from trl import DPOConfig, DPOTrainer

    amounts = given["amounts"]
    rows = {key: given[key] for key in ("chosen", "rejected")} | {"prompt": given["prompts"]}
    steps = amounts["epochs"] * len(given["prompts"]) // 16
    looks = max(1, steps // (amounts["steps"] // amounts["look"]))
    DPOTrainer(
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32),
        args=DPOConfig(
            **shared(given, folder),
            num_train_epochs=amounts["epochs"],
            per_device_train_batch_size=16,
            lr_scheduler_type="cosine",
            beta=given["beta"],
            max_length=1024,
            logging_strategy="no",
        ),
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
        callbacks=[Looks(folder, looks, policy)],
    ).train()


def main(folder):
    given = json.loads((folder / "question.json").read_text())
    torch.set_num_threads(given["threads"])
    torch.manual_seed(given["seed"])
    tokenizer = AutoTokenizer.from_pretrained(given["base"], padding_side="left")
    for text, ids in list(zip(given["prompts"], given["ids"], strict=True))[:50]:
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found == ids, f"{text!r} reads {found} here and {ids} there"
    policy = AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32)
    {"ppo": ppo, "rloo": grouped, "grpo": grouped, "dpo": dpo}[given["algorithm"]](
        given, folder, policy, tokenizer
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
