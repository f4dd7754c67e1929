"""The peer's half of rloo_vs_trl.py: the RLOO and GRPO trainers of TRL 1.16, run by .venv-trl's python.

Set in its favour where a setting costs time and changes nothing here: no gradient checkpointing, no saving,
no logging, no tracking, one generation batch a step. It samples by transformers' generate, since there is no
vLLM on a CPU, and is paid by a Python function, as accord is.
"""

import os
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import trl
from datasets import Dataset
from transformers import LlamaForCausalLM

from _sizes import llama, outside, tokenizer, words
from _steps import NEW_TOKENS, ROLLOUTS, SAMPLES, arguments, prompts, report
from _trl_clock import Clock, quiet

TRAINERS = {"rloo": (trl.RLOOTrainer, trl.RLOOConfig), "grpo": (trl.GRPOTrainer, trl.GRPOConfig)}


def distinct(completion_ids, **_):
    """The share of distinct tokens in a completion."""
    return [len(set(ids)) / len(ids) for ids in completion_ids]


def main():
    given = arguments(algorithm="rloo")
    trainer, config = TRAINERS[given.algorithm]
    steps = given.warmup + given.steps
    rows = Dataset.from_dict({"prompt": [words(ids) for ids in prompts(given.model)]})
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        # The reference is loaded from where the policy came from.
        LlamaForCausalLM(llama(given.model, eos_token_id=outside(given.model))).save_pretrained(folder)
        made = trainer(
            model=LlamaForCausalLM.from_pretrained(folder),
            reward_funcs=distinct,
            args=config(
                per_device_train_batch_size=given.rows,
                gradient_accumulation_steps=ROLLOUTS // given.rows,
                num_generations=SAMPLES,
                max_completion_length=NEW_TOKENS,
                max_steps=steps,
                num_iterations=1,
                beta=0.05,
                temperature=1.0,
                logging_strategy="no",
                **quiet(folder, given),
            ),
            train_dataset=rows,
            processing_class=tokenizer(given.model),
            callbacks=[clock],
        )
        made.train()
    assert len(clock.marks) == steps + 1
    report(clock.marks, given, ROLLOUTS)


if __name__ == "__main__":
    main()
