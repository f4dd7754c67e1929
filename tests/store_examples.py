"""Prompts and completions that are hard to keep: odd characters, odd floats, large seeds."""

from accord.types import Completion, Message, Origin, Prompt, Stop

ORIGIN = Origin(
    model="tiny",
    model_hash="ab" * 8,
    adapter_hash="cd" * 8,
    rendered="<|user|>Where is it?<|assistant|>",
    prompt_ids=(1, 7, 2),
    sampling={"temperature": 0.7, "top_k": 0, "top_p": 1.0, "max_new_tokens": 8},
    seed=2**63 + 5,
)
PROMPTS = [
    Prompt.from_text("Where is it?", meta={"order": {"days": 3, "paid": True, "weight": 0.1}}),
    Prompt((Message("system", "Be kind."), Message("user", "It broke."))),
]
COMPLETIONS = [
    Completion("On its way.", (5, 6, 9), (-0.1, -1 / 3, -1e-300), Stop.EOS, ORIGIN),
    Completion(
        'NUL \x00, ünïcode ☃ 𝄞, "quotes", back\\slash, tab\t, newline\n', (5,), (-2.5,), Stop.LENGTH, ORIGIN
    ),
    Completion(""),
    Completion("Written by a person."),
]
