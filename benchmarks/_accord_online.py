"""accord's half of ppo_vs_trl.py and rloo_vs_trl.py: all weights train, the reference is a frozen copy.

PPO's critic is a head on the policy's trunk; the scorer counts distinct tokens.
"""

from transformers import LlamaForCausalLM

from _sizes import llama, outside, tokenizer, words
from _speed import Distinct
from _steps import (
    EPOCHS,
    LEARNING_RATE,
    NEW_TOKENS,
    PROMPT_TOKENS,
    ROLLOUTS,
    SAMPLES,
    arguments,
    now,
    prompts,
    report,
)
from accord.align.learner import Learner
from accord.align.online import run_step
from accord.align.settings import AlignConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.render import Template
from accord.types import Prompt


def main():
    given = arguments(algorithm="ppo")
    net = LlamaForCausalLM(llama(given.model, eos_token_id=outside(given.model)))
    policy = LanguageModel(net, tokenizer(given.model), "random", Template.PLAIN)
    samples = 1 if given.algorithm == "ppo" else SAMPLES
    config = AlignConfig(
        algorithm=given.algorithm,
        steps=given.warmup + given.steps,
        prompts_per_step=ROLLOUTS // samples,
        samples_per_prompt=samples,
        epochs=EPOCHS if given.algorithm == "ppo" else 1,
        minibatch=ROLLOUTS,
        micro_rows=given.rows,
        learning_rate=LEARNING_RATE,
        lora_rank=0,
        mixed_precision=given.precision == "bfloat16",
        max_new_tokens=NEW_TOKENS,
        truncation_penalty=0.0,  # no token ends a row here, on either side
    )
    hasten(policy, halved=config.mixed_precision)  # as align() does
    learner = Learner(policy, config)
    texts = [Prompt.from_text(words(ids)) for ids in prompts(given.model)]
    marks = [now()]
    for step in range(config.steps):
        metrics, rollouts, _ = run_step(learner, Distinct(), texts, step)
        marks.append(now())
        assert len(rollouts) == ROLLOUTS
        assert metrics["length"] == NEW_TOKENS
        assert all(len(rollout.prompt_ids) == PROMPT_TOKENS for rollout in rollouts)
    report(marks, given, ROLLOUTS)


if __name__ == "__main__":
    main()
