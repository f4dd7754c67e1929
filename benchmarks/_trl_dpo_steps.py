"""The peer's half of dpo_vs_trl.py: TRL 1.12's DPOTrainer, run by .venv-trl's python.

Set in its favour where a setting costs time and changes nothing here: no gradient checkpointing, no saving,
no logging, no tracking; texts are tokenised before the clock starts. The pairs of a prompt stand beside each
other in a step, as many as accord's step has.
"""

import itertools
import os
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

from datasets import Dataset
from transformers import LlamaForCausalLM
from trl import DPOConfig, DPOTrainer

from _sizes import llama, tokenizer, words
from _steps import PROMPTS_A_STEP, arguments, rankings, report
from _trl_clock import Clock, quiet


def main():
    given = arguments(completions=4)
    orders = list(itertools.combinations(range(given.completions), 2))
    steps, pairs = given.warmup + given.steps, PROMPTS_A_STEP * len(orders)
    small = min(pairs, given.rows // 2)
    rows = [
        {"prompt": words(prompt), "chosen": " " + words(ranked[i]), "rejected": " " + words(ranked[j])}
        for prompt, ranked in rankings(given.model, steps * PROMPTS_A_STEP)
        for i, j in orders
    ]
    settings = llama(given.model, end=True)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        DPOTrainer(
            model=LlamaForCausalLM(settings),
            ref_model=LlamaForCausalLM(settings),
            args=DPOConfig(
                num_train_epochs=1,
                per_device_train_batch_size=small,
                gradient_accumulation_steps=pairs // small,
                beta=0.1,
                max_length=256,
                logging_strategy="no",
                **quiet(folder, given),
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(given.model),
            callbacks=[clock],
        ).train()
    assert len(clock.marks) == steps + 1
    report(clock.marks, given, PROMPTS_A_STEP)


if __name__ == "__main__":
    main()
