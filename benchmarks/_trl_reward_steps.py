"""The peer's half of reward_vs_trl.py: TRL 1.12's RewardTrainer, run by .venv-trl's python.

Set in its favour where a setting costs time and changes nothing here: no gradient checkpointing, no saving,
no logging, no tracking, pairs already tokenised. The pairs of a prompt stand beside each other in a step, as
many as accord's step has.
"""

import os
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer

from _sizes import llama, outside, tokenizer
from _steps import CENTERING, PAIRS, PROMPTS_A_STEP, arguments, rankings, report
from _trl_clock import Clock, quiet


def main():
    given = arguments()
    steps, pairs = given.warmup + given.steps, PROMPTS_A_STEP * len(PAIRS)
    small, end = min(pairs, given.rows // 2), outside(given.model)
    rows = [
        {"chosen_ids": [*prompt, *ranked[i], end], "rejected_ids": [*prompt, *ranked[j], end]}
        for prompt, ranked in rankings(given.model, steps * PROMPTS_A_STEP)
        for i, j in PAIRS
    ]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        RewardTrainer(
            model=LlamaForSequenceClassification(llama(given.model, end=True, num_labels=1)),
            args=RewardConfig(
                num_train_epochs=1,
                per_device_train_batch_size=small,
                gradient_accumulation_steps=pairs // small,
                center_rewards_coefficient=CENTERING,
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
