"""Rollouts a second and peak memory of one PPO step, accord beside TRL 1.12's PPOTrainer.

    scripts/setup-trl-env && python benchmarks/ppo_vs_trl.py --model S

A step: 32 rollouts of 64 new tokens behind prompts of 24, four passes, all weights training, on a random
Llama (_sizes.py); what differs between the sides stands in _accord_online.py and _trl_ppo.py. The last line
is one JSON object: ratio_* are accord's rollouts a second over TRL's, turn by turn (_beside.py); cpu_ratio
is TRL's processor time over accord's, which other work on the machine touches less.
"""

from __future__ import annotations

import json

from _beside import beside, conditions, parsed, parser_of


def main() -> None:
    given = parsed(parser_of(__doc__))
    found = beside(given, "_accord_online.py", "_trl_ppo.py", algorithm="ppo")
    print(json.dumps({"benchmark": "ppo_vs_trl", **conditions(given), **found}))


if __name__ == "__main__":
    main()
