"""LoRA adapters: the one place where peft is told how to make them.

Hu et al. 2021, arXiv:2106.09685. Fresh adapters change nothing: their B matrices are zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from accord.errors import ModelError


def fresh_lora(
    net: PreTrainedModel, rank: int, alpha: int, seed: int, exclude: Sequence[str] = ()
) -> PeftModel:
    """Put fresh adapters on every linear layer but the output head (in place) and freeze the rest.

    ``exclude`` names modules to leave alone with all they hold. The same seed gives the same adapters, and
    the global random state is left as it was.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        exclude_modules=rf"(.*\.)?({'|'.join(exclude)})(\..*)?" if exclude else None,
        # GPT-2's Conv1D keeps its matrix transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in net.modules()),
    )
    with torch.random.fork_rng(devices=[]), _quiet():
        # Adapters are drawn on the CPU; torch.manual_seed would also reset every GPU's generator.
        torch.default_generator.manual_seed(seed)
        return get_peft_model(net, config)


def load_lora(net: PreTrainedModel, folder: Path) -> PeftModel:
    """Put the adapter saved in ``folder`` on ``net`` (in place), ready to train on.

    Raises:
        ModelError: it changes the output head or embeddings, so that turning it off in the trunk
            would not give the reference.
    """
    with _quiet():
        peft = PeftModel.from_pretrained(net, folder, is_trainable=True)
    for module in (net.get_output_embeddings(), net.get_input_embeddings()):
        if any("lora_" in name or "modules_to_save" in name for name, _ in module.named_parameters()):
            raise ModelError(
                f"{folder}: the adapter changes the output head or the embeddings; accord keeps policy and "
                "reference on one head. Merge it into the weights first (peft's merge_and_unload)"
            )
    return peft


@contextmanager
def _quiet() -> Iterator[None]:
    """peft asks transformers by a name that is to be renamed; nobody but peft can change that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
