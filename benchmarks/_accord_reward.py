"""accord's half of reward_vs_trl.py: steps of reward.train.train as a user runs it, all weights training.

One prompt is held out and scored after the last step, outside of the clock.
"""

from transformers import LlamaForSequenceClassification

from _sizes import llama, tokenizer, words
from _steps import CENTERING, LEARNING_RATE, PAIRS, PROMPTS_A_STEP, arguments, now, rankings, report
from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.render import Template
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt


def main():
    given = arguments()
    steps = given.warmup + given.steps + 1  # the last one is followed by the held-out prompt
    count = steps * PROMPTS_A_STEP + 1
    net = LlamaForSequenceClassification(llama(given.model, end=True, num_labels=1))
    classifier = SequenceClassifier(net, tokenizer(given.model), "random", template=Template.PLAIN)
    comparisons = []
    for ids, completions in rankings(given.model, count):
        prompt = Prompt.from_text(words(ids))
        ranked = [Completion(words(each)) for each in completions]
        comparisons += [Comparison(prompt, ranked[i], ranked[j]) for i, j in PAIRS]
    config = RewardConfig(
        batch_prompts=PROMPTS_A_STEP,
        micro_rows=given.rows,
        mixed_precision=given.precision == "bfloat16",
        learning_rate=LEARNING_RATE,
        centering=CENTERING,
        evaluations=1,
        holdout=1 / count,
    )
    marks = [now()]
    train(comparisons, classifier, config, lambda _: marks.append(now()))
    assert len(marks) == steps + 1
    report(marks[:-1], given, PROMPTS_A_STEP)


if __name__ == "__main__":
    main()
