"""The peer's half of ppo_vs_trl.py: TRL 1.12's PPOTrainer, run by .venv-trl's python.

Set in its favour where a setting costs time and changes nothing here: no gradient checkpointing, no
sample generations, no saving, no tracking, one rollout forward of the whole batch, one minibatch an
epoch. Its value model is a second Llama of the policy's size, since its critic cannot share a trunk;
its reward model, which must be a module, is one layer of width 16, since rewards are not compared.
"""

import os
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

from datasets import Dataset
from transformers import LlamaForCausalLM, LlamaForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer

from _sizes import llama, tokenizer
from _steps import EPOCHS, NEW_TOKENS, ROLLOUTS, arguments, prompts, report
from _trl_clock import Clock, quiet


def main():
    given = arguments(algorithm="ppo")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    policy = LlamaForCausalLM(llama(given.model))
    reference = LlamaForCausalLM(llama(given.model))
    reference.load_state_dict(policy.state_dict())
    rows = Dataset.from_dict({"input_ids": prompts(given.model)})
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        PPOTrainer(
            args=PPOConfig(
                per_device_train_batch_size=given.rows,
                gradient_accumulation_steps=ROLLOUTS // given.rows,
                num_mini_batches=1,
                total_episodes=ROLLOUTS * (given.warmup + given.steps),
                local_rollout_forward_batch_size=ROLLOUTS,
                num_ppo_epochs=EPOCHS,
                response_length=NEW_TOKENS,
                temperature=1.0,
                num_sample_generations=0,
                **quiet(folder, given),
            ),
            processing_class=tokenizer(given.model),
            model=policy,
            ref_model=reference,
            reward_model=LlamaForSequenceClassification(llama(given.model, num_labels=1, **small)),
            value_model=LlamaForSequenceClassification(llama(given.model, num_labels=1)),
            train_dataset=rows,
            eval_dataset=rows.select(range(ROLLOUTS)),
            callbacks=[clock],
        ).train()
    report(clock.marks, given, ROLLOUTS)


if __name__ == "__main__":
    main()
