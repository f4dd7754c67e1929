"""accord's half of ppo_vs_trl.py: all weights train, the reference is a frozen copy.

The critic is a head on the policy's trunk; the scorer counts distinct tokens.
"""

from transformers import LlamaForCausalLM

from _ppo_sizes import (
    EPOCHS,
    LEARNING_RATE,
    NEW_TOKENS,
    OUTSIDE,
    PROMPT_TOKENS,
    ROLLOUTS,
    arguments,
    llama,
    now,
    prompts,
    report,
    tokenizer,
)
from accord.align.learner import Learner
from accord.align.online import run_step
from accord.align.settings import AlignConfig
from accord.lm.model import LanguageModel
from accord.lm.render import Template
from accord.types import Prompt, Score


class Distinct:
    """The share of distinct tokens in a completion."""

    def score(self, prompt, completions):
        return [Score(len(set(c.ids)) / len(c.ids)) for c in completions]


def main():
    given = arguments()
    policy = LanguageModel(
        LlamaForCausalLM(llama(eos_token_id=OUTSIDE)), tokenizer(), "random", Template.PLAIN
    )
    texts = [Prompt.from_text(" ".join(f"w{i}" for i in ids)) for ids in prompts()]
    config = AlignConfig(
        steps=given.warmup + given.steps,
        prompts_per_step=ROLLOUTS,
        epochs=EPOCHS,
        minibatch=ROLLOUTS,
        micro_rows=given.micro,
        learning_rate=LEARNING_RATE,
        lora_rank=0,
        max_new_tokens=NEW_TOKENS,
        truncation_penalty=0.0,  # no token ends a row here, on either side
    )
    learner = Learner(policy, config)
    marks = [now()]
    for step in range(config.steps):
        metrics, rollouts, _ = run_step(learner, Distinct(), texts, step)
        marks.append(now())
        assert len(rollouts) == ROLLOUTS
        assert metrics["length"] == NEW_TOKENS
        assert all(len(rollout.prompt_ids) == PROMPT_TOKENS for rollout in rollouts)
    report(marks, given.warmup)


if __name__ == "__main__":
    main()
