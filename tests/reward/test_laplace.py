"""The last layer's doubt: by hand, against sampling, and where it must be large."""

import numpy as np
import pytest
import torch
from scipy import special

from accord.errors import ConfigError, DataError, ModelError
from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from accord.reward.laplace import (
    Design,
    LaplaceReward,
    _moderated,
    best_precision,
    design_of,
    head_weights,
    layer,
)
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt, Scorer

FAST = RewardConfig(epochs=4, learning_rate=3e-3, holdout=0.25)


@pytest.fixture(scope="module", params=["llama", "bert"])
def trained(request, folder, planted):
    data = planted(prompts=60)
    return train(data, SequenceClassifier.load(folder(request.param), labels=1), FAST)[0], data


def groups_of(data):
    found = {}
    for c in data:
        found.setdefault(c.prompt.id, (c.prompt, {}))[1].update({x.text: x for x in (c.chosen, c.rejected)})
    return [(prompt, list(texts.values())) for prompt, texts in found.values()]


# -- the posterior -----------------------------------------------------------------------------


def test_the_design_is_what_the_model_computes(trained):
    """Differences of the last layer times the head are differences of logits, and pairs weigh sqrt(2 / N)."""
    model, data = trained
    design = design_of(model, data)
    for i in (0, 1, -1):
        c = data[i]
        x = layer(model, [(c.prompt, [c.chosen, c.rejected])])
        np.testing.assert_allclose(design.delta_PD[i], x[0] - x[1], atol=1e-4)
        a, b = model.score(c.prompt, [c.chosen, c.rejected])
        assert design.d_P[i] == pytest.approx(a.parts["logit"] - b.parts["logit"], abs=1e-4)
    sizes = {prompt.id: len(texts) for prompt, texts in groups_of(data)}
    assert design.weight_P.tolist() == pytest.approx([np.sqrt(2 / sizes[c.prompt.id]) for c in data])
    assert len(design.x_ND) == sum(sizes.values())


def test_the_covariance_is_the_inverse_of_the_curvature(trained):
    model, data = trained
    found = LaplaceReward.fit(model, data, precision=0.7)
    design = design_of(model, data)
    s = special.expit(design.d_P)
    curvature = (design.delta_PD * (design.weight_P * s * (1 - s))[:, None]).T @ design.delta_PD
    np.testing.assert_allclose(
        found.cov_DD @ (curvature + 0.7 * np.eye(len(curvature))), np.eye(len(curvature)), atol=1e-8
    )
    _, var = found.differences(data[:5])
    by_hand = [d @ found.cov_DD @ d for d in design.delta_PD[:5]]
    assert var.tolist() == pytest.approx(by_hand, rel=1e-3)


def test_it_is_the_posterior_that_sampling_finds():
    """One weight, ten votes: mean and variance of w against the posterior on a grid."""
    x, p, w, tau = np.full(40, 0.5), np.r_[np.ones(28), np.zeros(12)], np.linspace(-3, 6, 20001), 1.0
    log_density = (p * -np.logaddexp(0, -np.outer(w, x)) - (1 - p) * np.logaddexp(0, np.outer(w, x))).sum(1)
    density = np.exp(log_density - tau * w**2 / 2)
    density /= density.sum()
    mode = w[np.argmax(density)]
    s = special.expit(mode * 0.5)
    variance = 1 / (40 * 0.25 * s * (1 - s) + tau)
    assert variance == pytest.approx((density * (w - density @ w) ** 2).sum(), rel=0.05)
    truth = (density * special.expit(w * 2.0)).sum()
    assert special.expit(_moderated(np.array([mode * 2.0]), np.array([4 * variance]))[0]) == pytest.approx(
        truth, abs=0.01
    )


def test_a_score_keeps_the_reward_and_says_its_doubt(trained):
    model, data = trained
    sure, careful = (LaplaceReward.fit(model, data, caution=c) for c in (0.0, 2.0))
    assert isinstance(sure, Scorer)
    groups = groups_of(data)[:3]
    plain = [s for g in model.score_groups(groups) for s in g]
    found = [s for g in sure.score_groups(groups) for s in g]
    assert [s.value for s in found] == [s.value for s in plain]
    x = layer(model, groups) - sure.centre_D
    sd = np.sqrt(np.einsum("nd,de,ne->n", x, sure.cov_DD, x)) / model.std
    assert [s.parts["sd"] for s in found] == pytest.approx(sd.tolist(), rel=1e-3)
    for s, t in zip([s for g in careful.score_groups(groups) for s in g], found, strict=True):
        assert s.value == pytest.approx(t.value - 2 * t.parts["sd"] ** 2)
    assert sure.score_groups([]) == []


def test_more_judgements_leave_less_doubt_and_new_words_more(trained):
    model, data = trained
    few, many = (LaplaceReward.fit(model, part, precision=1.0) for part in (data[:30], data))
    assert np.trace(many.cov_DD) < np.trace(few.cov_DD)
    assert np.linalg.eigvalsh(few.cov_DD - many.cov_DD).min() > -0.05
    odd = Comparison(Prompt.from_text("say 1"), Completion("qqq ZZZ 000 !!!"), Completion("ba ba"))
    assert many.differences([odd])[1][0] > np.median(many.differences(data)[1])
    p = many.probabilities(data)
    plain = special.expit(many.differences(data)[0])
    assert (np.abs(p - 0.5) <= np.abs(plain - 0.5)).all()
    assert ((p > 0.5) == (plain > 0.5)).all()


# -- how tau is chosen -------------------------------------------------------------------------


def test_evidence_finds_the_planted_precision():
    """Weights drawn from N(0, 1 / tau) and many sharp votes: tau comes back."""
    rng = np.random.default_rng(0)
    for tau in (0.05, 4.0):
        w = rng.normal(0, tau**-0.5, 300)
        delta = rng.normal(size=(4000, 300))
        d = delta @ w
        design = Design(delta, d, (d > 0).astype(float), np.ones(4000), delta)
        assert best_precision(w, design) == pytest.approx(tau, rel=0.3)


def test_held_out_votes_choose_how_much_to_doubt(trained):
    """Held-out votes that are all right want certainty; votes that are half wrong want doubt."""
    model, data = trained
    flipped = [Comparison(c.prompt, c.rejected, c.chosen) if i % 2 else c for i, c in enumerate(data)]
    right = [c for c, d in zip(data, design_of(model, data).d_P, strict=True) if d > 0]
    sure, unsure = (LaplaceReward.fit(model, data, held_out=held) for held in (right, flipped))
    assert sure.precision > 100 * unsure.precision


# -- folders and refusals ----------------------------------------------------------------------


def test_saved_and_loaded_it_scores_the_same_to_the_bit(trained, tmp_path):
    model, data = trained
    one = LaplaceReward.fit(model, data, caution=0.3)
    one.save(tmp_path / "l")
    loaded = LaplaceReward.load(tmp_path / "l")
    groups = groups_of(data)[:4]
    assert loaded.score_groups(groups) == one.score_groups(groups)
    assert np.array_equal(loaded.cov_DD, one.cov_DD)
    assert (loaded.precision, loaded.caution) == (one.precision, 0.3)
    assert RewardModel.load(tmp_path / "l").score_groups(groups) == model.score_groups(groups)


def test_what_cannot_doubt_is_refused(trained, tmp_path):
    model, data = trained
    with pytest.raises(DataError, match="no comparisons"):
        LaplaceReward.fit(model, [])
    for precision in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="precision"):
            LaplaceReward.fit(model, data, precision=precision)
    with pytest.raises(ConfigError, match="caution"):
        LaplaceReward.fit(model, data, caution=-1.0)
    model.save(tmp_path / "plain")
    with pytest.raises(ModelError, match="no Laplace posterior"):
        LaplaceReward.load(tmp_path / "plain")


def test_the_head_is_read_from_the_model(trained):
    model, _ = trained
    w = head_weights(model)
    assert w.dtype == np.float64
    assert torch.equal(torch.tensor(w, dtype=torch.float32), [
        m for m in model.classifier.net.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1
    ][-1].weight[0].detach())  # fmt: skip
