"""Demonstrations are learned to their own frequencies; of one's own samples the best, and never a cut one."""

import pytest
import torch
from torch.testing import assert_close

from accord.align.answers import Reader, logprobs_of
from accord.align.offline import OfflineConfig, Trainer, answers_of, read
from accord.align.supervised import DistilConfig, SupervisedLoss, chosen, distil, supervise
from accord.errors import ConfigError, DataError, NumericsError
from accord.judgements import Anchor
from accord.types import Completion, Prompt, Rollout, Score, Stop
from toys import ShareOfGood

A, B, C = Completion("!"), Completion('"!'), Completion("!!!")
FIRST, SECOND = Prompt.from_text("!"), Prompt.from_text('""')
PROMPTS = [Prompt.from_text(f"{a}{b}") for a in ("!", '"', "!!", '""') for b in ("", "!", '"')]


def settings(**changes):
    base = {"holdout": 0.0, "epochs": 100, "batch_prompts": 2, "learning_rate": 1e-2, "lora_rank": 4}
    return OfflineConfig(**base | changes)


def distilling(**changes):
    base = {"holdout": 0.0, "epochs": 4, "batch_prompts": 6, "learning_rate": 1e-2, "lora_rank": 4}
    return DistilConfig(**base | {"samples": 8, "max_new_tokens": 8, "seed": 1} | changes)


# -- demonstrations ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rank"), [("llama", 0), ("t5", 4)])
def test_what_is_said_three_times_in_four_is_learned_at_three_in_four(toy, kind, rank):
    policy = toy(kind)
    report = supervise(policy, [(FIRST, c) for c in (A, A, B, A)], settings(lora_rank=rank, epochs=200))
    found = logprobs_of(policy, [Reader(policy)(FIRST, c) for c in (A, B)])[0].exp()
    assert_close(found.detach(), torch.tensor([0.75, 0.25]), atol=0.03, rtol=0)
    assert (report.demonstrations_train, report.demonstrations_holdout) == (4, 0)


@pytest.mark.parametrize("rows", [2, 32])
def test_the_loss_is_the_cross_entropy_of_all_tokens_of_a_step(toy, rows):
    policy, config = toy(), settings(lora_rank=0)
    said = [(FIRST, A), (FIRST, C), (SECOND, B), (SECOND, B)]
    data = read(policy, config, [], [Anchor(p, c, 1.0) for p, c in said])
    Trainer(policy, config, data)
    logits, targets = [], []
    for prompt, completion in said:
        answer = Reader(policy)(prompt, completion)
        out = policy.net(input_ids=torch.tensor([answer.ids])).logits[0]
        logits.append(out[answer.start - 1 : -1])
        targets.append(torch.tensor(answer.ids[answer.start :]))
    plain = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(targets))
    weights, objective = policy.trainable(), SupervisedLoss()
    expected = torch.autograd.grad(plain, weights, allow_unused=True)
    objective.begin(data.groups)
    parts = [data.groups] if rows == 32 else [[group] for group in data.groups]
    values = [objective.loss(*logprobs_of(policy, answers_of(part)), part)[0] for part in parts]
    assert sum(values).item() == pytest.approx(plain.item(), abs=1e-5)
    found = torch.autograd.grad(sum(values), weights, allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_held_out_prompts_are_measured(toy):
    config = settings(holdout=0.25, epochs=8, max_new_tokens=3)
    report = supervise(toy(), [(prompt, A) for prompt in PROMPTS], config)
    assert (report.prompts_train, report.prompts_holdout) == (8, 2)  # ten different ones
    assert report.loss < report.loss_before - 0.5
    assert report.kl > 0.1
    assert len(report.held_out) == 2


def test_a_cut_demonstration_teaches_no_end(toy):
    policy = toy()
    cut = Completion("!", Reader(policy).completion(A)[:-1], stop=Stop.LENGTH)
    supervise(policy, [(FIRST, cut)], settings(epochs=40, batch_prompts=1))
    good, whole = (Reader(policy)(FIRST, c) for c in (cut, A))
    first, both = logprobs_of(policy, [good, whole])[0].exp()
    assert first > 0.95
    assert both / first < 0.5


# -- the best of one's own ---------------------------------------------------------------------


def rollout(text, prompt=FIRST, stop=Stop.EOS):
    return Rollout(prompt, (1,), (7,), (0.0,), (1,), stop, text)


def test_the_best_of_each_prompt_by_hand():
    rollouts = [rollout("a"), rollout("b"), rollout("b"), rollout("c"), rollout("d", stop=Stop.LENGTH),
                rollout("a", SECOND)]  # fmt: skip
    scores = [Score(x) for x in (1.0, 3.0, 3.0, 2.0, 9.0, -1.0)]

    def texts(**changes):
        return [(r.prompt, r.text) for r, _ in chosen(rollouts, scores, distilling(**changes))]

    assert texts() == [(FIRST, "b"), (SECOND, "a")]  # d was cut
    assert texts(keep=2) == [(FIRST, "b"), (FIRST, "c"), (SECOND, "a")]  # b counts once
    assert texts(keep=2, at_least=3.0) == [(FIRST, "b")]
    with pytest.raises(DataError, match=r"among 6 samples: 1 were cut .*best score is 9"):
        texts(at_least=4.0)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_rounds_raise_the_reward(toy, kind):
    seen = []
    config = distilling(rounds=3, epochs=6)
    report = distil(toy(kind), ShareOfGood(), PROMPTS, config, progress=seen.append)
    rewards = [row["reward"] for row in report.rounds]
    assert rewards[0] < rewards[1] < rewards[2]
    assert report.reward_after > 5 * rewards[0]
    assert all(row["kept_reward"] >= row["reward"] for row in report.rounds)
    assert {row["round"] for row in seen} == {1, 2, 3}


def test_the_kl_is_to_where_it_all_began(toy):
    """All weights train: the reference of the second round is that of the first."""
    config = distilling(rounds=2, lora_rank=0, holdout=0.3, learning_rate=3e-3)
    policy = toy()
    report = distil(policy, ShareOfGood(), PROMPTS, config)
    still = settings(lora_rank=0, learning_rate=1e-12, epochs=1, holdout=0.3, max_new_tokens=8, seed=1)
    said = [(prompt, A) for prompt in PROMPTS]
    to_start = supervise(policy, said, still, reference=toy()).kl
    assert report.last.kl == pytest.approx(to_start, rel=1e-4)  # of the same prompts and samples
    assert supervise(policy, said, still).kl == pytest.approx(0, abs=1e-5)
    assert report.last.kl > 0.1


def test_a_killed_run_samples_and_learns_the_same_again(toy, tmp_path):
    def kill(row):
        if (row["round"], row["step"]) == (2, 3):
            raise RuntimeError("killed")

    whole, policy, config = toy(), toy(), distilling(rounds=2)
    expected = distil(whole, ShareOfGood(), PROMPTS, config)
    with pytest.raises(RuntimeError, match="killed"):
        distil(toy(), ShareOfGood(), PROMPTS, config, folder=tmp_path, progress=kill)
    report = distil(policy, ShareOfGood(), PROMPTS, config, folder=tmp_path, resume=True)
    assert report.reward_after == expected.reward_after
    assert report.last.history == expected.last.history
    for name, value in whole.net.state_dict().items():
        assert torch.equal(policy.net.state_dict()[name], value), name


def test_wrong_input_is_refused(toy):
    with pytest.raises(ConfigError, match="nothing to choose"):
        distilling(keep=8)
    with pytest.raises(DataError, match="no prompts"):
        distil(toy(), ShareOfGood(), [], distilling())
    with pytest.raises(NumericsError, match="reward nan"):
        distil(toy(), ShareOfGood(nan_at=0), PROMPTS, distilling())
    with pytest.raises(DataError, match="nothing to learn from"):
        supervise(toy(), [], settings())
