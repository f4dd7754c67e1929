"""The words of the task page that depend on what is asked: titles, lanes, keys, reasons."""

from __future__ import annotations

TITLES = {
    "rank": "Which answer is best?",
    "pair": "Which answer is better?",
    "thumb": "Is each answer good?",
    "edit": "Write a better answer:",
}

KEY_HELP: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "all": [
        (("J", "K", "→", "←"), "next, previous answer"),
        (("↓", "↑"), "answer below, above"),
    ],
    "rank": [
        (("1", "…", "9"), "put the answer on that tier; the same number is a tie"),
        (("Shift", "1"), "a new tier there; the others move down"),
        (("F",), "fail it"),
        (("U",), "back to unranked"),
    ],
    "pair": [
        (("1", "2", "3"), "A is much better, better, slightly better"),
        (("4", "T"), "tie"),
        (("5", "6", "7"), "B is slightly better, better, much better"),
        (("F",), "both fail"),
    ],
    "thumb": [
        (("1",), "good"),
        (("2",), "bad"),
        (("U",), "not judged"),
    ],
    "edit": [
        (("E",), "start from a copy of the answer"),
    ],
    "always": [
        (("Enter",), "submit"),
        (("Z",), "undo the last move; with none left, take back your last answer"),
        (("D",), "differences between this answer and another"),
        (("N",), "write a note; Esc leaves it"),
        (("S",), "skip the task"),
        (("R",), "report the prompt"),
        (("?",), "this list"),
    ],
}

SKIP_REASONS = (
    ("cannot judge", "I cannot judge this: it needs knowledge I lack"),
    ("language", "It is in a language I do not know well"),
    ("unclear", "The prompt is unclear or incomplete"),
    ("distressing", "I would rather not read this"),
    ("other", "Something else"),
)
FLAG_REASONS = (
    ("private data", "It holds somebody’s private data"),
    ("harmful", "It asks for something harmful or illegal"),
    ("broken", "It is broken, garbled or not a prompt at all"),
    ("identity", "It shows which model or person wrote an answer"),
    ("other", "Something else"),
)
REMARKS = (
    ("skip", "Skip this task", "It goes to somebody else. You will not see it again.", "Skip", SKIP_REASONS),
    (
        "flag",
        "Report the prompt",
        "The owner of the project looks at it. You can still answer the task, or skip it.",
        "Report",
        FLAG_REASONS,
    ),
)


def lanes(protocol: str, completions: int) -> list[tuple[str, str]]:
    """(name, title) of each lane on the board, in the order they stand."""
    if protocol == "thumb":
        return [("good", "Good"), ("bad", "Bad"), ("tray", "To judge")]
    if protocol != "rank":
        return []
    titles = ["1 · best", *(str(tier) for tier in range(2, completions + 1))]
    tiers = [(str(tier), title) for tier, title in enumerate(titles, 1)]
    return [*tiers, ("fail", "Fail"), ("tray", "To place")]


def key_help(protocol: str) -> list[tuple[tuple[str, ...], str]]:
    """The keys that do something in this protocol."""
    return [*KEY_HELP["all"], *KEY_HELP[protocol], *KEY_HELP["always"]]
