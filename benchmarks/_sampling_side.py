"""One side of sampling.py, in a process of its own: accord, or transformers' generate or generate_batch.

Every side samples from the same random Llama at temperature 1 over the whole vocabulary, and no token ends a
row: lengths are given, row by row, and are the same on all sides.
"""

import argparse
import itertools
import json
import resource
import statistics
from contextlib import ExitStack

import torch
from transformers import GenerationConfig, LlamaForCausalLM, StoppingCriteria
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from _sizes import MODELS, draw, llama, outside, tokenizer
from _steps import now
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.render import Template

PROMPT_TOKENS = 32
NEW_TOKENS = 64
LONGEST = 4  # times the new tokens of a row at equal lengths
SIDES = ("accord", "generate", "batch")


def work(model: str, rows: int, batches: int, new_tokens: int) -> dict[str, tuple[list, list[int]]]:
    """Prompts and lengths: one batch of equal lengths, and batches of geometric ones (half as long as a
    rule, some up to four times as long)."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.empty(rows * batches).geometric_(2 / new_tokens, generator=generator)
    spread = drawn.long().clamp(max=LONGEST * new_tokens).tolist()
    return {
        "equal": (draw(model, rows, PROMPT_TOKENS), [new_tokens] * rows),
        "geometric": (draw(model, rows * batches, PROMPT_TOKENS), spread),
    }


class Limits(StoppingCriteria):
    """Ends row b after ``limits[b]`` new tokens."""

    def __init__(self, limits: list[int], start: int) -> None:
        self.limits_B, self.start = torch.tensor(limits), start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return input_ids.shape[1] - self.start >= self.limits_B


class Given(Engine):
    """The engine with each row's limit given."""

    limits: list[int]

    def _rows(self, prompts, n, begun):
        prompts, begun, rows = super()._rows(prompts, n, begun)
        for row, limit in zip(rows, self.limits, strict=True):
            row.limit = limit
        return prompts, begun, rows


def accord(net: LlamaForCausalLM, model: str, rows: int, plain: bool):
    """accord's sampler: at most ``rows`` at a time, waiting rows join."""
    policy = LanguageModel(net, tokenizer(model), "random", Template.PLAIN)
    assert plain or hasten(policy) is None

    def sample(prompts: list, limits: list[int]) -> int:
        engine = Given(policy, SamplingConfig(max_new_tokens=max(limits), rows=rows))
        engine.limits = limits
        return sum(len(group[0].ids) for group in engine.generate(prompts))

    return sample


def generate(net: LlamaForCausalLM, model: str, rows: int):
    """transformers' generate, batch after batch; tokens behind a row's limit are not counted."""

    def sample(prompts: list, limits: list[int]) -> int:
        said = 0
        for at in range(0, len(prompts), rows):
            ids, most = torch.tensor(prompts[at : at + rows]), limits[at : at + rows]
            out = net.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
                max_new_tokens=max(most), stopping_criteria=[Limits(most, ids.shape[1])], pad_token_id=0,
            )  # fmt: skip
            assert out.shape[1] - ids.shape[1] == max(most)
            said += sum(most)
        return said

    return sample


def batch(net: LlamaForCausalLM, rows: int, new_tokens: int, until: ExitStack):
    """transformers' continuous batching, at most ``rows`` requests at a time."""
    asked = GenerationConfig(do_sample=True, top_k=0, top_p=1.0, eos_token_id=-1, pad_token_id=0)
    # a block is 128 tokens; room for every row at its longest, and the graphs of a GPU are off
    settings = ContinuousBatchingConfig(
        page_size=128, num_blocks=rows * -(-(PROMPT_TOKENS + LONGEST * new_tokens + 1) // 128),
        max_batch_tokens=1024, max_requests_per_batch=rows, use_cuda_graph=False,
    )  # fmt: skip
    manager = until.enter_context(  # once, as a server would: its start and its end are not counted
        net.continuous_batching_context_manager(
            generation_config=asked, continuous_batching_config=settings, warmup=False
        )
    )

    def sample(prompts: list, limits: list[int]) -> int:
        for prompt, limit in zip(prompts, limits, strict=True):
            manager.add_request(prompt, max_new_tokens=limit)
        done = [manager.get_result(timeout=600) for _ in prompts]
        assert sorted(len(each.generated_tokens) for each in done) == sorted(limits)
        return sum(limits)

    return sample


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=SIDES, required=True)
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--plain", type=int, default=0, help="accord without the lean step")
    for name, default in {"steps": 3, "threads": 2, "rows": 32, "batches": 6, "tokens": NEW_TOKENS}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    net = LlamaForCausalLM(llama(given.model)).eval()
    for weight in net.parameters():  # not the rotation's buffers, which a model loaded so keeps in float32
        weight.data = weight.data.to(getattr(torch, given.dtype))
    found = {}
    with ExitStack() as until, torch.no_grad():
        if given.side == "accord":
            net.generation_config.eos_token_id = outside(given.model)
            sample = accord(net, given.model, given.rows, bool(given.plain))
        elif given.side == "generate":
            sample = generate(net, given.model, given.rows)
        else:
            sample = batch(net, given.rows, given.tokens, until)
        for name, (prompts, limits) in work(given.model, given.rows, given.batches, given.tokens).items():
            sample(prompts[: given.rows], [4] * given.rows)
            marks = [now()]
            for _ in range(given.steps):
                assert sample(prompts, limits) == sum(limits)
                marks.append(now())
            pairs = list(itertools.pairwise(marks))
            found[f"{name}_per_s"] = sum(limits) / statistics.median(b[0] - a[0] for a, b in pairs)
            found[f"{name}_per_cpu_s"] = sum(limits) / statistics.median(b[1] - a[1] for a, b in pairs)
    found["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
