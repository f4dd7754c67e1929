"""accord's half of dpo_vs_trl.py: steps of DPO as ``align.preference.prefer`` runs them.

The reference's log-probs are measured for all steps before the first; their time is added to every step.
"""

import itertools

from transformers import LlamaForCausalLM

from _sizes import llama, tokenizer, words
from _steps import LEARNING_RATE, PROMPTS_A_STEP, arguments, now, rankings, report
from accord.align.offline import Trainer, read
from accord.align.preference import PreferenceConfig, PreferenceLoss, Reference
from accord.judgements import Comparison
from accord.lm.model import LanguageModel
from accord.types import Completion, Prompt


def main():
    given = arguments(completions=4)
    steps = given.warmup + given.steps
    policy = LanguageModel(LlamaForCausalLM(llama(given.model, end=True)), tokenizer(given.model), "random")
    comparisons = []
    for ids, completions in rankings(given.model, steps * PROMPTS_A_STEP):
        prompt = Prompt.from_text(words(ids))
        ranked = [Completion(words(each)) for each in completions[: given.completions]]
        comparisons += [Comparison(prompt, a, b) for a, b in itertools.combinations(ranked, 2)]
    config = PreferenceConfig(
        batch_prompts=PROMPTS_A_STEP,
        micro_rows=given.rows,
        learning_rate=LEARNING_RATE,
        lora_rank=0,
        holdout=0.0,
    )
    trainer = Trainer(policy, config, read(policy, config, comparisons))
    start = now()
    reference = Reference.of(trainer)
    marks = [now()]
    trainer.run(PreferenceLoss(config, policy, reference), progress=lambda _: marks.append(now()))
    assert len(marks) == steps + 1
    wall, cpu = ((end - begin) / steps for begin, end in zip(start, marks[0], strict=True))
    report(marks, given, PROMPTS_A_STEP, before=(wall, cpu))


if __name__ == "__main__":
    main()
