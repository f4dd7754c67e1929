"""Online reinforcement learning: prompts and a scorer in, a better policy out, on a KL leash to a reference.

One step is five verbs, and they are public so that a loop of one's own can be written with them:

    rollouts = act(engine, prompts, samples)          # sample
    scores = judge(scorer, rollouts)                  # reward
    batch = credit(learner, rollouts, scores)         # KL, values, advantages
    metrics = learn(learner, batch, step)             # fit
    verdict = distrust(history, ...)                  # go on or stop

PPO is that of Ziegler et al. 2019 (arXiv:1909.08593) with the details of Huang et al. 2024
(arXiv:2403.17031): r_t = -beta (log pi - log ref) with the score at the last token, GAE, clipped policy and
value losses, advantages whitened over the tokens of the whole batch. Other algorithms are rows
(``align.algorithms``). All randomness is a function of (seed, step): a step done again gives the same bits.

Legend: B rollouts, T completion tokens, U = T + 1, D width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from accord.align.algorithms import Paid
from accord.align.learner import Learner, step_seed
from accord.align.settings import AlignConfig
from accord.errors import ConfigError, DataError, NumericsError
from accord.lm.engine import Engine
from accord.lm.fit import fit
from accord.lm.precision import mixed_precision
from accord.lm.score import score_hidden
from accord.lm.tokens import TokenBatch
from accord.rl.advantages import EPSILON, explained_variance, gae, masked_mean, masked_var, whiten
from accord.rl.kl import ESTIMATORS, ahead, kl_loss, kl_rewards
from accord.rl.losses import clipped_value_loss, token_weights
from accord.types import Adapts, Completion, Prompt, Rollout, Score, Scorer, Stop, score_groups

FIRST_RATIO_BOUND, GAP_BOUND = 0.02, 0.05
"""Mean over a minibatch: float32 stays below 1e-5, bfloat16 below 1e-2. A token's log-prob, nats: float32
stays below 1e-3, others are not bound."""
MICRO_TOKENS = {"cpu": 1024}
"""Most tokens of a forward, padding included, by device; one row may have more."""


@dataclass(frozen=True)
class Batch:
    """A step's rollouts with what the update needs; every (B, T) is zero where the policy chose no token."""

    tokens: TokenBatch
    mask_BT: Tensor
    logprobs_BT: Tensor
    ref_logprobs_BT: Tensor
    values_BT: Tensor
    advantages_BT: Tensor
    returns_BT: Tensor
    kl_weight: float
    """Weight of the KL in the loss, in the advantages' unit; 0 where the reward holds all of it."""
    metrics: dict[str, float]

    def rows(self, index: Tensor) -> Batch:
        """The chosen rollouts, trimmed to the longest of them."""
        tokens = self.tokens.rows(index)
        width = tokens.ids_BT.shape[1]
        cut = {name: value[index, :width] for name, value in vars(self).items() if name.endswith("_BT")}
        return replace(self, tokens=tokens, **cut)


Micro = tuple[Batch, Tensor, float]
"""Rollouts of one forward, their tokens' weights in the optimiser step's mean, and all its weights' sum."""


# -- act, judge --------------------------------------------------------------------------------


def act(engine: Engine, prompts: Sequence[Prompt], samples: int = 1, version: int = 0) -> list[Rollout]:
    """``samples`` rollouts a prompt, with the tokens and log-probs they were sampled with.

    Raises:
        ConfigError: the engine truncates its support.
    """
    whole_support(engine)
    encoded, text = [engine.encode(prompt) for prompt in prompts], engine.decode
    return [
        Rollout(p, tuple(ids), s.ids, s.logprobs, (1,) * len(s.ids), s.stop, text(s.ids), version, (), s.kept,
                s.states)
        for p, ids, group in zip(prompts, encoded, engine.generate(encoded, samples), strict=True)
        for s in group
    ]  # fmt: skip


def whole_support(engine: Engine) -> None:
    """Refuse an engine that truncates its support (top-k, top-p): the importance ratios would be taken
    against probabilities the tokens were not drawn from."""
    if engine.config.top_k is not None or engine.config.top_p is not None or not engine.config.temperature:
        raise ConfigError(
            "reinforcement learning samples from the whole distribution: remove top_k and top_p, and "
            "set a temperature above 0"
        )


def judge(scorer: Scorer, rollouts: Sequence[Rollout]) -> list[Score]:
    """A score a rollout; completions of one prompt are judged as a group.

    Raises:
        NumericsError: a score is missing or not finite; the rollout is shown.
    """
    groups: dict[str, tuple[Prompt, list[int], list[Completion]]] = {}
    for i, rollout in enumerate(rollouts):
        _, places, completions = groups.setdefault(rollout.prompt.id, (rollout.prompt, [], []))
        places.append(i)
        completions.append(rollout.completion)
    found: dict[int, Score] = {}
    scored = score_groups(scorer, [(prompt, completions) for prompt, _, completions in groups.values()])
    for (prompt, places, _), scores in zip(groups.values(), scored, strict=True):
        if len(scores) != len(places):
            raise NumericsError(
                f"{len(scores)} scores for the {len(places)} completions of prompt {prompt.id!r}, the first "
                f"{rollouts[places[0]].text[:120]!r}; a scorer returns one for each. Mend the scorer"
            )
        found.update(zip(places, scores, strict=True))
    for i, rollout in enumerate(rollouts):
        if not math.isfinite(float(found[i].value)):
            raise NumericsError(
                f"reward {found[i].value} for the completion {rollout.text[:120]!r} to prompt "
                f"{rollout.prompt.id!r}; a reward must be a finite number. Mend the scorer"
            )
    return [found[i] for i in range(len(rollouts))]


# -- credit ------------------------------------------------------------------------------------


@torch.no_grad()
def credit(
    learner: Learner, rollouts: Sequence[Rollout], scores: Sequence[Score], *, fresh: bool = False
) -> Batch:
    """Old log-probs, values, KL to the reference, rewards and advantages of a step's rollouts.

    ``fresh``: the policy is as it sampled them, so that it need not read them again where it kept its states.

    Raises:
        DataError: cut completions are masked and next to nothing is left.
    """
    config, device = learner.config, learner.policy.device
    tokens = tokens_of(rollouts, learner.policy.pad_id).to(device)
    mask_BT = tokens.chosen_BT
    spare_UD = torch.zeros(len(mask_BT[0]) + 1, learner.policy.width, device=device)
    states = [*(r.states for r in rollouts), spare_UD]  # the last tokens' own are not asked for
    known = fresh and all(s is not None for s in states)
    states_BUD = pad_sequence(states, batch_first=True)[:-1] if known else None
    seen, values_BU = _measure(learner, tokens, states_BUD)
    cut_B = torch.tensor([r.stop is Stop.LENGTH for r in rollouts], device=device)
    score_B = torch.tensor([s.value for s in scores], dtype=torch.float32, device=device)
    rewards_BT, kl_weight = _leash(learner, seen, mask_BT)
    rewards_BT += earned(rollouts, _judged(config, score_B, cut_B), tokens)
    bootstrap_B = torch.zeros_like(score_B)
    if config.truncation == "bootstrap":
        bootstrap_B = values_BU.gather(1, tokens.lens_B[:, None])[:, 0] * cut_B
    values_BT = values_BU[:, :-1] * mask_BT
    paid = Paid(rewards_BT, values_BT, mask_BT, bootstrap_B, _groups(rollouts).to(device), config.gamma,
                config.lam)  # fmt: skip
    advantages_BT, returns_BT = config.row.credit(paid), torch.zeros_like(values_BT)
    metrics = _metrics(learner, rollouts, tokens, seen, score_B, cut_B)
    if learner.critic is not None:
        lam = config.lam if config.critic_lam is None else config.critic_lam
        _, returns_BT = gae(rewards_BT, values_BT, mask_BT, bootstrap_B, gamma=config.gamma, lam=lam)
        explained = float(explained_variance(values_BT, returns_BT, mask_BT))
        if math.isfinite(explained):  # undefined where all returns are equal
            metrics["value_explained"] = explained
    batch = Batch(
        tokens, mask_BT, seen["logprobs"], seen["ref_logprobs"], values_BT, advantages_BT, returns_BT,
        kl_weight, metrics,
    )  # fmt: skip
    if config.truncation == "mask":
        if int(mask_BT[~cut_B].sum()) < 2:
            raise DataError(
                f"{int(cut_B.sum())} of {len(rollouts)} completions were cut by max_new_tokens and masked; "
                "too little is left to learn from: raise the limit, or choose another truncation"
            )
        batch = batch.rows((~cut_B).nonzero()[:, 0])
    if not config.row.whiten:
        return batch
    spread = math.sqrt(float(masked_var(batch.advantages_BT, batch.mask_BT)) + EPSILON)  # as in whiten
    white_BT = whiten(batch.advantages_BT, batch.mask_BT)
    return replace(batch, advantages_BT=white_BT, kl_weight=batch.kl_weight / spread)


def tokens_of(rollouts: Sequence[Rollout], pad_id: int) -> TokenBatch:
    """The rollouts' tokens as tensors, with who chose them."""
    tokens = TokenBatch.of(
        [r.prompt_ids for r in rollouts], [r.ids for r in rollouts], pad_id, [r.mask for r in rollouts]
    )
    if not any(r.kept for r in rollouts):
        return tokens
    kept = torch.zeros((*tokens.ids_BT.shape, len(rollouts[0].kept[0])), dtype=torch.uint8)
    for row, rollout in enumerate(rollouts):
        kept[row, : len(rollout.kept)] = torch.frombuffer(
            bytearray(b"".join(rollout.kept)), dtype=torch.uint8
        ).view(len(rollout.kept), -1)
    return replace(tokens, kept_BTW=kept)


def _leash(learner: Learner, seen: dict[str, Tensor], mask_BT: Tensor) -> tuple[Tensor, float]:
    """The KL's part of the rewards (B, T), and its weight in the loss."""
    (where, how), beta = learner.config.leash, learner.beta.value
    if where == "loss":
        return torch.zeros_like(seen["logprobs"]), beta
    if how == "exact":
        return kl_rewards(ahead(seen["kl"], mask_BT), beta, mask_BT), beta
    return kl_rewards(ESTIMATORS[how](seen["logprobs"], seen["ref_logprobs"]), beta, mask_BT), 0.0


def _judged(config: AlignConfig, score_B: Tensor, cut_B: Tensor) -> Tensor:
    """(B) scores, with what becomes of those of cut rollouts."""
    if config.truncation == "bootstrap":
        # The value of the state it was cut in stands for all that was to come, the score too.
        return score_B * ~cut_B
    return score_B - config.truncation_penalty * cut_B if config.truncation == "penalise" else score_B


def earned(rollouts: Sequence[Rollout], score_B: Tensor, tokens: TokenBatch) -> Tensor:
    """(B, T) what environment and scorer paid: the score on the policy's last token of a rollout."""
    rewards_BT = torch.zeros(tokens.ids_BT.shape, device=score_B.device)
    for row, rollout in enumerate(rollouts):
        if rollout.paid:
            rewards_BT[row, : len(rollout.paid)] = torch.tensor(rollout.paid, device=score_B.device)
    columns_T = torch.arange(tokens.ids_BT.shape[1], device=score_B.device)
    last_B = (tokens.chosen_BT * columns_T).argmax(dim=1)
    return rewards_BT.scatter_add(1, last_B[:, None], score_B[:, None])


def _groups(rollouts: Sequence[Rollout]) -> Tensor:
    """(B) a number for each prompt."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(r.prompt.id, len(numbers)) for r in rollouts])


def _metrics(
    learner: Learner, rollouts: Sequence[Rollout], tokens: TokenBatch, seen: dict[str, Tensor],
    score_B: Tensor, cut_B: Tensor,
) -> dict[str, float]:  # fmt: skip
    mask_BT = tokens.chosen_BT
    sampled = torch.zeros_like(seen["logprobs"])
    chosen = [x for r in rollouts for x, own in zip(r.logprobs, r.mask, strict=True) if own]
    sampled[mask_BT] = torch.tensor(chosen, device=score_B.device)
    paid_B = score_B + torch.tensor([sum(r.paid) for r in rollouts], device=score_B.device)
    return {
        "reward": float(paid_B.mean()),
        "reward_std": float(paid_B.std(unbiased=False)),
        "kl": float(seen["kl"].sum(1).mean()),
        "kl_sampled": float((seen["logprobs"] - seen["ref_logprobs"]).sum(1).mean()),
        "entropy": float(masked_mean(seen["entropy"], mask_BT)),
        "ref_logprob": float(masked_mean(seen["ref_logprobs"], mask_BT)),
        "length": float(mask_BT.sum(1).float().mean()),
        "truncated": float(cut_B.float().mean()),
        "beta": learner.beta.value,
        "sampler_gap": float((sampled - seen["logprobs"]).abs().max()),
    }


def _measure(learner: Learner, tokens: TokenBatch, known: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
    """The policy's and the reference's scores (B, T), and values (B, U), by slices of rows. The states
    of the policy may be known (B, U, D)."""
    shape = tokens.ids_BT.shape
    names = ("logprobs", "entropy", "ref_logprobs", "kl")
    out = {name: torch.zeros(shape, device=tokens.ids_BT.device) for name in names}
    values_BU = torch.zeros((shape[0], shape[1] + 1), device=tokens.ids_BT.device)
    for index in _slices(tokens, learner.config.micro_rows):
        part = tokens.rows(index)
        width = part.ids_BT.shape[1]
        hidden = learner.policy.hidden(part, after=True) if known is None else known[index, : width + 1]
        scores = score_hidden(
            learner.policy, hidden[:, :-1], part, learner.config.temperature,
            reference=learner.reference, ref_hidden_BTD=learner.reference_hidden(part),
        )  # fmt: skip
        for name, whole in out.items():
            whole[index, :width] = getattr(scores, name)
        if learner.critic is not None:
            values_BU[index, : width + 1] = learner.critic.values(part, hidden, after=True)
    return out, values_BU


def _slices(tokens: TokenBatch, rows: int) -> Iterator[Tensor]:
    """Row indices in slices of alike length: little is padded, and a forward stays in a CPU's cache."""
    lens_B = tokens.prompt_lens_B + tokens.lens_B
    most, part = MICRO_TOKENS.get(lens_B.device.type, math.inf), list[int]()
    for row in torch.argsort(lens_B, stable=True).tolist():
        if part and (len(part) == rows or (len(part) + 1) * int(lens_B[row]) > most):
            yield torch.tensor(part, device=lens_B.device)
            part = []
        part.append(row)
    yield torch.tensor(part, device=lens_B.device)


# -- learn -------------------------------------------------------------------------------------


def learn(learner: Learner, batch: Batch, step: int) -> dict[str, float]:
    """The inner epochs of one step; metrics are means over its updates.

    Raises:
        NumericsError: loss or gradient is not finite, or the policy is not the one that sampled: the first
            importance ratio is not 1, or a log-prob differs.
    """
    config = learner.config
    if config.row.learn is not None:
        return config.row.learn(learner, batch, step)
    generator = torch.Generator().manual_seed(step_seed(config.seed, step))
    warm = learner.critic is not None and step < config.critic_warmup
    learner.schedule(step)

    def loss(micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        part, weights_BT, _ = micro
        hidden = learner.policy.hidden(part.tokens)
        # Without a gradient Adam leaves the policy alone, its moments and their step count too.
        value, metrics = value_loss(learner, part, hidden.detach() if warm else hidden, weights_BT)
        with torch.set_grad_enabled(not warm):
            objective, found = policy_loss(learner, micro, hidden)
        gaps.append(found.pop("gap"))
        return value if warm else objective + value, metrics | found

    updates = minibatches(batch, config.minibatch, config.passes, config, generator)
    gaps: list[Tensor] = []
    rows = [{**found, "sampler_gap": float(max(gaps))} for found in fit(updates, loss, learner.optimiser)]
    means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    means["first_ratio"] = rows[0]["ratio_mean"]
    means["sampler_gap"] = max(rows[0]["sampler_gap"], batch.metrics["sampler_gap"])
    check_first_ratio(learner, means["first_ratio"], step, means["sampler_gap"])
    if not warm:
        learner.beta.update(batch.metrics["kl"], len(batch.tokens))
        learner.follow(step)
    return means


def check_first_ratio(learner: Learner, ratio: float, step: int, gap: float) -> None:
    """Raises NumericsError where before the first update the mean importance ratio is not 1, or a log-prob is
    further from the sampler's than rounding explains."""
    exact = learner.exact and not torch.is_autocast_enabled(learner.policy.device.type)
    if abs(ratio - 1) > FIRST_RATIO_BOUND or (exact and not gap <= GAP_BOUND):
        raise NumericsError(
            f"step {step}: the first importance ratio is {ratio:.5f}, it must be 1; log-probs differ by up "
            f"to {gap:.2g} from the sampler's, {GAP_BOUND} is allowed: the policy that is trained is not the "
            "one that sampled. Run `accord doctor` on the model"
        )


def policy_loss(learner: Learner, micro: Micro, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The row's loss, and the KL where it stands in the loss."""
    (part, weights_BT, weight), config = micro, learner.config
    how = config.leash[1] if part.kl_weight else ""
    reference = None
    if how == "exact":
        with torch.no_grad():
            reference = learner.reference_hidden(part.tokens)
    scores = score_hidden(
        learner.policy, hidden, part.tokens, config.temperature,
        reference=learner.reference, ref_hidden_BTD=reference, entropy=False,
    )  # fmt: skip
    loss, found = config.row.loss(
        scores.logprobs, part.logprobs_BT, part.advantages_BT, part.mask_BT,
        clip=config.ratio_clip, weights_BT=weights_BT,
    )  # fmt: skip
    metrics = {key: found[key] / weight for key in ("ratio_mean", "clipped_share", "approx_kl")}
    metrics["gap"] = ((scores.logprobs - part.logprobs_BT) * part.mask_BT).detach().abs().max()
    if how:
        kl_BT = scores.kl
        if kl_BT is None:
            kl_BT = kl_loss(scores.logprobs, part.logprobs_BT, part.ref_logprobs_BT, part.mask_BT, how)
        leash = part.kl_weight * (kl_BT * weights_BT).sum()
        loss, metrics["kl_loss"] = loss + leash, leash.detach()
    return loss, metrics | {"policy_loss": loss.detach()}


def value_loss(
    learner: Learner, part: Batch, hidden: Tensor, weights_BT: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The critic's loss; on a trunk it shares with the policy it is weighted."""
    if learner.critic is None:
        return torch.zeros((), device=hidden.device), {}
    values = learner.critic.values(part.tokens, hidden) * part.mask_BT
    loss, _ = clipped_value_loss(
        values, part.values_BT, part.returns_BT, part.mask_BT,
        clip=learner.config.value_clip, weights_BT=weights_BT,
    )  # fmt: skip
    return learner.config.value_coef * loss, {"value_loss": loss.detach()}


def minibatches(
    batch: Batch, size: int, passes: int, config: AlignConfig, generator: torch.Generator
) -> Iterator[list[Micro]]:
    """Optimiser steps of ``size`` rollouts, as lists of micro-batches."""
    for _ in range(passes):
        order = torch.randperm(len(batch.tokens), generator=generator)
        for index in order.split(size):
            whole = batch.rows(index)
            weights_BT = token_weights(whole.mask_BT, config.row.mean, config.max_new_tokens)
            micros = []
            for part in _slices(whole.tokens, config.micro_rows):
                micro = whole.rows(part.cpu())
                micros.append((micro, weights_BT[part, : micro.mask_BT.shape[1]], float(weights_BT.sum())))
            yield micros


# -- the step ----------------------------------------------------------------------------------


def draw(prompts: Sequence[Prompt], step: int, config: AlignConfig) -> list[Prompt]:
    """The prompts of ``step``: epochs of the shuffled set, one after another, as a function of the seed."""
    count, first = len(prompts), step * config.prompts_per_step

    @cache
    def order(epoch: int) -> list[int]:
        places = list(range(count))
        random.Random(f"{config.seed}:prompts:{epoch}").shuffle(places)
        return places

    return [prompts[order(i // count)[i % count]] for i in range(first, first + config.prompts_per_step)]


def run_step(
    learner: Learner, scorer: Scorer | None, prompts: Sequence[Prompt], step: int,
    sample: Callable[[Engine, Sequence[Prompt], int, int], list[Rollout]] = act,
) -> tuple[dict[str, float], list[Rollout], list[Score]]:  # fmt: skip
    """One whole step. The scores it returns hold what an environment paid and, if there is one, a scorer."""
    drawn = draw(prompts, step, learner.config)
    rollouts = sample(learner.engine(step), drawn, learner.config.samples, step)
    scores = [Score(0.0)] * len(rollouts) if scorer is None else judge(scorer, rollouts)
    with mixed_precision(learner.policy.device, learner.config.mixed_precision):
        batch = credit(learner, rollouts, scores, fresh=True)
        rollouts = [replace(rollout, states=None) for rollout in rollouts]
        torch.clear_autocast_cache()  # what was cast without gradients must not be read with them
        metrics = batch.metrics | learn(learner, batch, step)
    if isinstance(scorer, Adapts) and step >= learner.config.critic_warmup:  # a still policy cannot answer
        metrics |= scorer.adapt(scores)
    paid = [replace(s, value=s.value + sum(r.paid)) for s, r in zip(scores, rollouts, strict=True)]
    return metrics, rollouts, paid
