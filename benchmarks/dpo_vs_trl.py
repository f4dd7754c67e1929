"""DPO's training beside TRL 1.12's DPOTrainer: prompts a second and peak memory, all weights training.

    scripts/setup-trl-env && python benchmarks/dpo_vs_trl.py --model S

On a random Llama (_sizes.py), once with rankings of four completions (six pairs), and once with single
pairs, where a prompt has nothing to share. TRL reads every pair by policy and reference at each step: a
ranking of four passes each twelve times. Here it passes each four times, the reference before the first
step; that time is counted. The last line is one JSON object: ratio_*, cpu_ratio and memory_ratio are of
rankings, pair_* of single pairs; the turns and ratios are those of _beside.py.
"""

from __future__ import annotations

import json

from _beside import beside, conditions, parsed, parser_of


def main() -> None:
    given = parsed(parser_of(__doc__))
    if given.precision != "float32":
        raise SystemExit("offline learning here has float32 products alone; leave --precision out")
    result = {"benchmark": "dpo_vs_trl", **conditions(given)}
    for completions, start in ((4, ""), (2, "pair_")):
        found = beside(given, "_accord_dpo.py", "_trl_dpo_steps.py", completions=completions)
        result |= {f"{start}{name}": value for name, value in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
