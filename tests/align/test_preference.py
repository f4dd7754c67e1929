"""Preferences are learned: to the known optimum, by the gradient meant, kept at their best, and resumed."""

import math
import os
import signal

import pytest
import torch
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from accord.align.answers import Reader, logprobs_of, measured
from accord.align.offline import Trainer, answers_of, read
from accord.align.preference import (
    PreferenceConfig,
    PreferenceLoss,
    Reference,
    label_both_sides,
    prefer,
)
from accord.errors import ConfigError, DataError, StoreError
from accord.judgements import Anchor, Comparison
from accord.lm.grouped import Mark
from accord.lm.model import Kind
from accord.types import Completion, Prompt

LOSSES = ("dpo", "ipo", "kto", "orpo", "simpo")
A, B, C = Completion("!"), Completion('"!'), Completion("!!!")
FIRST, SECOND = Prompt.from_text("!"), Prompt.from_text('""')
SOFT = [Comparison(FIRST, A, B, 0.8), Comparison(FIRST, B, C, 0.6)]
"""One prompt, three completions of different length in a row of pairs."""


def settings(**changes):
    base = {
        "holdout": 0.0,
        "epochs": 150,
        "batch_prompts": 1,
        "learning_rate": 1e-2,
        "lora_rank": 4,
        "beta": 0.5,
    }
    return PreferenceConfig(**base | changes)


def logprobs(policy, prompt=FIRST, completions=(A, B, C)):
    """Of whole completions, from the model's own forward and not accord's."""
    out = []
    for completion in completions:
        answer = Reader(policy)(prompt, completion)
        prompt_ids, ids = (
            torch.tensor([part]) for part in (answer.ids[: answer.start], answer.ids[answer.start :])
        )
        if policy.kind is Kind.ENCODER_DECODER:
            before = torch.cat([torch.tensor([[policy.start_id]]), ids[:, :-1]], 1)
            logits = policy.net(input_ids=prompt_ids, decoder_input_ids=before).logits[0]
        else:
            logits = policy.net(input_ids=torch.cat([prompt_ids, ids], 1)).logits[0, answer.start - 1 : -1]
        out.append(logits.float().log_softmax(-1).gather(1, ids.T).sum())
    return torch.stack(out)


def tokens(policy, completions=(A, B, C)):
    return torch.tensor([len(Reader(policy).completion(c)) for c in completions])


# -- the known optimum -------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rank"), [("llama", 0), ("llama", 4), ("t5", 4)])
def test_dpo_reaches_logit_p_over_beta(toy, kind, rank):
    policy = toy(kind)
    start = logprobs(policy).detach()
    prefer(policy, SOFT, settings(lora_rank=rank))
    moved = (logprobs(policy) - start).detach()
    expected = torch.logit(torch.tensor([0.8, 0.6])) / 0.5
    assert_close(moved[:2] - moved[1:], expected, atol=0.02, rtol=0)


def test_ipo_reaches_its_distance_a_token(toy):
    policy = toy()
    start = logprobs(policy).detach()
    prefer(policy, SOFT, settings(algorithm="ipo"))
    moved = ((logprobs(policy) - start) / tokens(policy)).detach()
    assert_close(moved[:2] - moved[1:], torch.tensor([0.6, 0.2]), atol=0.02, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_prefers_what_was_preferred(toy, loss):
    policy = toy()
    start = logprobs(policy).detach()
    wins = [Comparison(prompt, A, B) for prompt in (FIRST, SECOND)]
    prefer(policy, wins, settings(algorithm=loss, epochs=30, beta=None))
    moved = (logprobs(policy) - start).detach()
    assert moved[0] - moved[1] > 1


def test_a_tie_teaches_no_preference(toy):
    policy = toy()
    start = logprobs(policy).detach()
    prefer(policy, [Comparison(FIRST, A, B, 0.9), Comparison(FIRST, B, C, 0.5)], settings())
    moved = (logprobs(policy) - start).detach()
    assert moved[1] - moved[2] == pytest.approx(0, abs=0.02)
    assert moved[0] - moved[1] > 1


# -- the loss that was meant -------------------------------------------------------------------

WORLD = [
    *SOFT,
    Comparison(FIRST, A, C),
    Comparison(SECOND, C, A, 0.9),
]
THUMBS = [Anchor(FIRST, A, 1.0), Anchor(FIRST, C, 0.0, weight=2.0), Anchor(SECOND, B, 0.25)]


def plain_loss(policy, start, config):
    """The loss of WORLD written out pair by pair from the models' own forwards."""
    total = 0.0
    for prompt, pairs in ((FIRST, WORLD[:3]), (SECOND, WORLD[3:])):
        for pair in pairs:
            sides = (pair.chosen, pair.rejected)
            ours, theirs = logprobs(policy, prompt, sides), logprobs(start, prompt, sides).detach()
            n = tokens(policy, sides)
            total = total + one_pair(config, ours, theirs, n, pair.p_chosen) / len(pairs)
    return total / 2


def one_pair(config, ours, theirs, n, p):
    beta = config.strength

    def hard(w, l):
        d = (ours - theirs)[w] - (ours - theirs)[l]
        mean = ours / n
        if config.algorithm == "dpo":
            return -logsigmoid(beta * d)
        if config.algorithm == "ipo":
            return (((ours - theirs) / n)[w] - ((ours - theirs) / n)[l] - 1 / (2 * beta)) ** 2
        if config.algorithm == "simpo":
            return -logsigmoid(beta * (mean[w] - mean[l]) - config.margin)
        odds = mean - torch.log(1 - mean.exp())
        return -mean[w] - beta * logsigmoid(odds[w] - odds[l])

    return p * hard(0, 1) + (1 - p) * hard(1, 0)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "orpo", "simpo"])
@pytest.mark.parametrize("rows", [2, 32])
def test_loss_and_gradient_are_those_of_the_pairs_one_by_one(toy, loss, rows):
    policy, config = toy(), settings(algorithm=loss, lora_rank=0, micro_rows=rows)
    trainer = Trainer(policy, config, read(policy, config, WORLD))
    objective = PreferenceLoss(config, policy, Reference.of(trainer))
    with torch.no_grad():  # away from the start, where log-ratios are zero
        for parameter in policy.trainable():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    weights = policy.trainable()
    plain = plain_loss(policy, toy(), config)
    expected = torch.autograd.grad(plain, weights, allow_unused=True)
    objective.begin(trainer.data.groups)
    parts = [trainer.data.groups] if rows == 32 else [[group] for group in trainer.data.groups]
    found, grads = 0.0, [torch.zeros_like(p) for p in weights]
    for part in parts:
        value, _ = objective.loss(*logprobs_of(policy, answers_of(part)), part)
        found += value.item()
        for grad, more in zip(grads, torch.autograd.grad(value, weights, allow_unused=True), strict=True):
            grad += 0 if more is None else more
    assert found == pytest.approx(plain.item(), abs=1e-5)
    for one, other in zip(grads, expected, strict=True):
        assert_close(one, torch.zeros_like(one) if other is None else other, atol=1e-4, rtol=1e-3)


def test_kto_by_hand_from_the_models_own_forward(toy):
    """Marks of thumbs and of a pair, their weights, and the reference point of other prompts' completions."""
    policy, start = toy(), toy()
    config = settings(algorithm="kto", lora_rank=0, good_weight=1.5)
    pair = [Comparison(SECOND, A, C, 0.75)]
    data = read(policy, config, pair, THUMBS)
    (one, two) = sorted(data.groups, key=lambda g: g.prompt.id != FIRST.id)
    label_both_sides(data.groups)
    assert [two.completions[m.completion].text for m in two.marks] == [B.text, A.text, C.text]
    assert two.marks[1:] == [Mark(0, 0.75), Mark(1, 0.25)]
    trainer = Trainer(policy, config, data)
    reference = Reference.of(trainer)
    with torch.no_grad():
        for parameter in policy.trainable():
            parameter *= 1.1
    objective = PreferenceLoss(config, policy, reference)
    objective.begin(data.groups)
    mismatched = []
    for prompt, own in ((one.prompt, one), (two.prompt, two)):
        answer, theirs = reference.strangers[prompt.id]
        text = policy.tokenizer.decode(answer.ids[answer.start :], skip_special_tokens=True)
        other = two if own is one else one
        assert text in [c.text for c in other.completions]
        both = [logprobs(lm, prompt, [Completion(text)])[0].detach() for lm in (policy, start)]
        assert theirs == pytest.approx(float(both[1]), abs=1e-4)
        mismatched.append(float(both[0] - both[1]))
    z0 = max(0.0, sum(mismatched) / 2)
    assert float(objective.point) == pytest.approx(z0, abs=1e-4)

    def value(prompt, completion, p):
        both = [logprobs(lm, prompt, [completion])[0].detach() for lm in (policy, start)]
        gain = 0.5 * (float(both[0] - both[1]) - z0)
        return 1.5 * p / (1 + math.exp(gain)) + (1 - p) / (1 + math.exp(-gain))

    first = (value(FIRST, A, 1.0) + 2 * value(FIRST, C, 0.0)) / 2
    second = (value(SECOND, B, 0.25) + value(SECOND, A, 0.75) + value(SECOND, C, 0.25)) / 3
    found, _ = objective.loss(*logprobs_of(policy, answers_of(data.groups)), data.groups)
    assert found.item() == pytest.approx((first + second) / 2, abs=1e-4)


def test_kto_learns_from_thumbs_alone(toy):
    policy = toy()
    start = logprobs(policy).detach()
    thumbs = [Anchor(prompt, c, p) for prompt in (FIRST, SECOND) for c, p in ((A, 1.0), (C, 0.0))]
    report = prefer(policy, [], settings(algorithm="kto", epochs=30), anchors=thumbs)
    moved = (logprobs(policy) - start).detach()
    assert moved[0] > 0 > moved[2]
    assert report.good_to_bad == 1
    assert report.judgements_train == 4


def test_a_step_reads_each_completion_once_and_their_prompt_once(toy):
    """Three completions in three pairs: 2, 3 and 4 tokens, of which the last predicts nothing, behind 2."""
    policy, tokens_read = toy(), []
    policy.net.get_input_embeddings().register_forward_hook(lambda _, x, y: tokens_read.append(x[0].numel()))
    prefer(policy, WORLD[:3], settings(epochs=2))
    both_ways = [3 * (2 + 3), 2 + 1 + 2 + 3]  # what is checked before it is trusted
    assert tokens_read == [*both_ways, 8, 8, 8]  # the reference, and two steps


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_packed_or_not_the_same_is_learned(toy, monkeypatch, kind):
    found = []
    for pack in (True, False):
        if not pack:
            monkeypatch.setattr("accord.align.offline.may_pack", lambda *_: False)
        policy = toy(kind)
        report = prefer(policy, WORLD, settings(epochs=4, batch_prompts=2))
        found.append(([row["loss"] for row in report.history], logprobs(policy).detach()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-4)
    assert_close(found[0][1], found[1][1], atol=5e-3, rtol=0)


def test_micro_batches_change_nothing(toy):
    found = []
    for rows in (3, 32):
        policy = toy()
        report = prefer(policy, WORLD, settings(epochs=3, batch_prompts=2, micro_rows=rows))
        found.append(([row["loss"] for row in report.history], logprobs(policy).detach()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    assert_close(found[0][1], found[1][1], atol=1e-3, rtol=0)


def test_label_smoothing_is_a_softer_label(toy):
    policies = toy(), toy()
    prefer(policies[0], [Comparison(FIRST, A, B)], settings(epochs=5, label_smoothing=0.2))
    prefer(policies[1], [Comparison(FIRST, A, B, 0.8)], settings(epochs=5))
    assert_close(*(logprobs(policy) for policy in policies), atol=1e-5, rtol=0)


# -- held out ----------------------------------------------------------------------------------


def world(prompts=12, turned=()):
    """Completions that begin with ! win, but for the prompts named."""
    texts = [f"{a}{b}{c}" for a in '!"' for b in '!"' for c in ("", "!", '"')][:prompts]
    return [
        Comparison(Prompt.from_text(text), *((B, A) if i in turned else (A, B)))
        for i, text in enumerate(texts)
    ]


def test_held_out_prompts_are_reported(toy):
    policy = toy()
    config = settings(holdout=0.3, epochs=3, batch_prompts=4, max_new_tokens=3, beta=0.1)
    report = prefer(policy, world(), config)
    assert (report.prompts_train, report.prompts_holdout, report.judgements_holdout) == (8, 4, 4)
    assert report.loss_before == pytest.approx(math.log(2), abs=1e-5)
    assert report.loss < report.loss_before
    assert report.accuracy.value == 1
    assert report.chosen_moved > report.rejected_moved
    assert report.margin == pytest.approx(0.1 * (report.chosen_moved - report.rejected_moved), abs=1e-5)
    assert report.kl > 0
    shown = dict(report.rows())
    assert shown["loss before"] == "0.6931"
    assert "good to bad, weighted" not in shown


def test_at_the_start_the_kl_is_zero_and_exact(toy):
    for rank in (0, 4):
        report = prefer(toy(), world(), settings(holdout=0.3, epochs=1, lora_rank=rank, learning_rate=1e-12))
        assert report.kl == pytest.approx(0, abs=1e-6)
        assert report.kl_sampled == pytest.approx(0, abs=1e-5)
        assert report.accuracy.value == 0.5 if rank else True


def test_the_best_weights_on_held_out_prompts_are_kept_and_training_stops(toy):
    """Held-out prompts say the opposite of what is trained on: the first look is the best."""
    config = settings(holdout=0.3, epochs=40, evaluations=2, batch_prompts=4, kl_prompts=0)
    probe = read(toy(), config, world())
    held = {g.prompt.id for g in probe.held}
    turned = [i for i, c in enumerate(world()) if c.prompt.id in held]
    report = prefer(toy(), world(turned=turned), config)
    losses = [row["held_out_loss"] for row in report.history if "held_out_loss" in row]
    assert losses.index(min(losses)) == 0
    assert len(losses) == 3
    assert report.loss == pytest.approx(losses[0], abs=1e-6)
    assert math.isnan(report.kl)


# -- resume ------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def killed_at(step):
    def progress(row):
        if row["step"] == step:
            raise Killed

    return progress


@pytest.mark.parametrize(("loss", "rank"), [("dpo", 4), ("dpo", 0), ("kto", 4)])
def test_a_killed_run_resumes_to_the_same_bits(toy, tmp_path, loss, rank):
    config = settings(
        algorithm=loss, lora_rank=rank, holdout=0.3, epochs=3, batch_prompts=4, max_new_tokens=3
    )
    whole = toy()
    expected = prefer(whole, world(), config)
    for step in (1, 2, 4, 6):
        folder = tmp_path / str(step)
        with pytest.raises(Killed):
            prefer(toy(), world(), config, folder=folder, save_every=2, progress=killed_at(step))
        policy = toy()
        report = prefer(policy, world(), config, folder=folder, resume=True, save_every=2)
        assert report.history == expected.history
        for figure in ("loss", "kl", "kl_sampled", "loss_before", "margin"):
            assert getattr(report, figure) == getattr(expected, figure)
        for name, value in whole.net.state_dict().items():
            assert torch.equal(policy.net.state_dict()[name], value), name


def test_ctrl_c_finishes_the_step_and_keeps_it(toy, tmp_path):
    config = settings(holdout=0.3, epochs=3, batch_prompts=4, kl_prompts=0)
    seen, whole, policy = [], toy(), toy()
    prefer(whole, world(), config)

    def interrupt(row):
        seen.append(row["step"])
        if row["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        prefer(toy(), world(), config, folder=tmp_path, progress=interrupt)
    assert seen == [1, 2, 3]
    prefer(policy, world(), config, folder=tmp_path, resume=True, progress=interrupt)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert_close(logprobs(policy), logprobs(whole), atol=0, rtol=0)


def test_a_finished_run_resumes_to_itself(toy, tmp_path):
    config = settings(holdout=0.3, epochs=40, evaluations=2, batch_prompts=4, kl_prompts=0)
    first, again = toy(), toy()
    one = prefer(first, world(turned=(0, 3, 5)), config, folder=tmp_path)
    two = prefer(again, world(turned=(0, 3, 5)), config, folder=tmp_path, resume=True)
    assert (one.history, one.loss) == (two.history, two.loss)
    assert_close(logprobs(first), logprobs(again), atol=0, rtol=0)


def test_a_checkpoint_of_another_run_is_refused(toy, tmp_path):
    config = settings(epochs=2)
    prefer(toy(), SOFT, config, folder=tmp_path)
    with pytest.raises(ConfigError, match="holds a run already"):
        prefer(toy(), SOFT, config, folder=tmp_path)
    for others in (
        {"policy": toy(seed=1)},
        {"comparisons": SOFT[:1]},
        {"comparisons": [SOFT[0], Comparison(FIRST, B, C, 0.7)]},
        {"config": settings(epochs=3)},
    ):
        given = {"policy": toy(), "comparisons": SOFT, "config": config} | others
        with pytest.raises(StoreError, match="other settings or data"):
            prefer(**given, folder=tmp_path, resume=True)


def test_a_draft_left_by_a_kill_is_in_nobodys_way(toy, tmp_path):
    (tmp_path / ".draft").mkdir(parents=True)
    (tmp_path / ".draft" / "weights.safetensors").write_text("torn")
    report = prefer(toy(), SOFT, settings(epochs=2), folder=tmp_path, resume=True)
    assert len(report.history) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000002"]


# -- wrong input -------------------------------------------------------------------------------


def test_wrong_input_is_refused_before_anything_is_trained(toy):
    adapted = toy()
    adapted.add_lora(2)
    with pytest.raises(ConfigError, match=r"dpo learns from comparisons alone, and 3 anchors"):
        prefer(toy(), SOFT, settings(), anchors=THUMBS)
    with pytest.raises(DataError, match="nothing to learn from"):
        prefer(toy(), [], settings())
    with pytest.raises(DataError, match="at least 2"):
        prefer(toy(), SOFT, settings(holdout=0.5))
    with pytest.raises(DataError, match="there is one prompt"):
        prefer(toy(), SOFT, settings(algorithm="kto"))
    with pytest.raises(ConfigError, match="'persons'"):
        prefer(toy(), SOFT, settings(source_weights={"persons": 1.0}))
    with pytest.raises(ConfigError, match="merge them first"):
        prefer(adapted, SOFT, settings(lora_rank=0))
    with pytest.raises(ConfigError, match="label_smoothing"):
        settings(label_smoothing=0.6)


def test_what_is_too_long_is_left_out_and_counted(toy):
    long = Comparison(SECOND, Completion("!" * 40), A)
    report = prefer(toy(), [*SOFT, long], settings(epochs=1, max_length=20))
    assert (report.lost.inputs, report.lost.pairs, report.judgements_train) == (1, 1, 2)
    with pytest.raises(DataError, match="tokens too long"):
        prefer(toy(), [*SOFT, long], settings(max_length=20, over_long="refuse"))


def test_a_source_can_be_turned_down_to_nothing(toy):
    policies = toy(), toy()
    lies = [Comparison(FIRST, B, A, source="troll")]
    weights = {"troll": 0.0}
    prefer(policies[0], [Comparison(FIRST, A, B), *lies], settings(epochs=3, source_weights=weights))
    moved = (logprobs(policies[0]) - logprobs(policies[1])).detach()
    assert moved[0] > moved[1]


def test_the_reference_is_where_learning_starts_adapters_that_were_trained_before_too(toy):
    policy = toy()
    prefer(policy, SOFT, settings(epochs=20))
    config = settings()
    trainer = Trainer(policy, config, read(policy, config, SOFT))
    found = Reference.of(trainer).logprobs[FIRST.id]
    assert_close(found, measured(policy, answers_of(trainer.data.groups), 4), atol=1e-5, rtol=0)
    assert (found - logprobs(toy()).detach()).abs().max() > 0.1
    report = prefer(policy, SOFT * 2, settings(epochs=1, kl_prompts=4))
    assert report.history[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_a_setting_that_would_do_nothing_is_refused():
    for given, name in (
        ({"algorithm": "kto", "label_smoothing": 0.1}, "label_smoothing"),
        ({"algorithm": "dpo", "margin": 0.5}, "margin"),
        ({"algorithm": "ipo", "bad_weight": 2.0}, "bad_weight"),
    ):
        with pytest.raises(ConfigError, match=f"{name} would do nothing"):
            PreferenceConfig(**given)
