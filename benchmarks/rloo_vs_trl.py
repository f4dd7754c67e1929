"""Rollouts a second and peak memory of one step of RLOO and of GRPO, accord beside TRL 1.16's trainers.

    scripts/setup-trl-env && python benchmarks/rloo_vs_trl.py --model S

A step: 8 prompts of 24 tokens, 4 completions of 64 new tokens each, one pass, all weights training, on a
random Llama (_sizes.py); what differs between the sides stands in _accord_online.py and _trl_groups.py. The
last line is one JSON object: ratio_* and memory_ratio are RLOO's, grpo_* GRPO's.
"""

from __future__ import annotations

import json

from _beside import NEWER, beside, conditions, parsed, parser_of


def main() -> None:
    given = parsed(parser_of(__doc__))
    result = {"benchmark": "rloo_vs_trl", **conditions(given)}
    for algorithm, start in (("rloo", ""), ("grpo", "grpo_")):
        found = beside(given, "_accord_online.py", "_trl_groups.py", NEWER, algorithm=algorithm)
        result |= {f"{start}{name}": value for name, value in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
