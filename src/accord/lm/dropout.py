"""Dropout off in sampling, scoring and the RL update, where it would make the importance ratio noise."""

from __future__ import annotations

from typing import Any

from torch import nn


def silence_dropout(net: nn.Module) -> None:
    """Set every dropout and layer-drop rate to zero, in modules and in the configs some read."""
    for holder, key in dropout_rates(net):
        setattr(holder, key, 0.0)


def dropout_rates(net: nn.Module) -> list[tuple[Any, str]]:
    """Where a rate above zero stands: the module or config that holds it, and its name there."""
    found: list[tuple[Any, str]] = []
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            found.append((module, "p"))
        # Falcon, GPT-J and others read the rate from their config at every call.
        for holder in (module, getattr(module, "config", None)):
            for key, value in vars(holder).items() if holder is not None else ():
                if "drop" in key and isinstance(value, float) and value > 0:
                    found.append((holder, key))
    return found
