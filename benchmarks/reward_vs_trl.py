"""A reward model's training beside TRL 1.12's RewardTrainer: prompts a second and peak memory.

    scripts/setup-trl-env && python benchmarks/reward_vs_trl.py --model S

Eight prompts a step, each with four ranked completions, on a random Llama (_sizes.py); what differs between
the sides stands in _accord_reward.py and _trl_reward_steps.py. TRL trains on pairs, so a ranking of four
passes its model twelve times; accord's passes it four times, and their prompt once. The last line is one
JSON object; the turns and ratios are those of _beside.py. How well the models do: reward_accuracy.py.
"""

from __future__ import annotations

import json

from _beside import beside, conditions, parsed, parser_of


def main() -> None:
    given = parsed(parser_of(__doc__))
    found = beside(given, "_accord_reward.py", "_trl_reward_steps.py")
    print(json.dumps({"benchmark": "reward_vs_trl", **conditions(given), **found}))


if __name__ == "__main__":
    main()
