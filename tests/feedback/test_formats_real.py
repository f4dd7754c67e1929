"""Real judgements through the formats, and a hundred thousand rows in seconds."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from accord.errors import DataError
from accord.feedback.formats.gather import Feedback
from accord.feedback.formats.read import read_feedback
from accord.feedback.formats.write import write_feedback
from realdata import real_data


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def transcripts(feedback: Feedback, path: Path) -> list[tuple[str, str]]:
    write_feedback(path, "hh", feedback, ties="keep")
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    return [(row["chosen"], row["rejected"]) for row in rows]


def test_every_hh_pair_comes_back_to_the_letter(tmp_path: Path) -> None:
    rows = real_data("hh-rlhf/harmless_base_test")
    whole = [(row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]) for row in rows]
    apart = read_feedback(written(tmp_path / "apart.jsonl", rows))
    joined = read_feedback(
        written(
            tmp_path / "joined.jsonl",
            [{"chosen": chosen, "rejected": rejected} for chosen, rejected in whole],
        )
    )
    for feedback in (apart, joined):
        assert feedback.format == "hh"
        assert (feedback.rows, len(feedback.rankings)) == (len(rows), len(rows))
        assert transcripts(feedback, tmp_path / f"{id(feedback)}.jsonl") == whole
    assert apart.notes == {"column 'id' not used": len(rows)}
    assert (joined.prompts, joined.completions) == (apart.prompts, apart.completions)
    assert len(rows) == 1831
    assert max(len(prompt.messages) for prompt in apart.prompts.values()) > 5


def test_tulu_pairs_by_sixteen_people(tmp_path: Path) -> None:
    """Each annotation becomes one ranking; a tie stays a tie."""
    rows, expected = [], Counter()
    for pair in real_data("preferences-multi-annotator/tulu_human_eval_pairs"):
        names = list(pair["completions"])
        for note in pair["annotations"]:
            winner = note["preferred"]
            tiers = [[0, 1]] if winner == "tie" else [[names.index(winner)], [1 - names.index(winner)]]
            texts = list(pair["completions"].values())
            rows.append(
                {"prompt": pair["prompt"], "completions": texts, "tiers": tiers, "labeler": note["annotator"]}
            )
            expected[len(tiers)] += 1
    feedback = read_feedback(written(tmp_path / "tulu.jsonl", rows))
    assert Counter(len(ranking.tiers) for ranking in feedback.rankings) == expected
    assert len({ranking.labeler for ranking in feedback.rankings}) == 16
    assert expected[1] > 0
    back = tmp_path / "back.parquet"
    write_feedback(back, "rankings", feedback)
    assert read_feedback(back).rankings == feedback.rankings


def test_pandalm_with_ties_and_empty_answers(tmp_path: Path) -> None:
    rows = []
    for pair in real_data("preferences-multi-annotator/pandalm_pairs"):
        prompt = pair["instruction"] + ("\n\n" + pair["input"] if pair["input"] else "")
        ranks = {"response1": [1, 2], "response2": [2, 1], "tie": [1, 1]}
        for labeler, verdict in pair["annotations"].items():
            rows.append(
                {
                    "prompt": prompt,
                    "completions": [pair["response1"], pair["response2"]],
                    "rank": ranks[verdict],
                    "labeler": labeler,
                }
            )
    path = written(tmp_path / "pandalm.jsonl", rows)
    good = [row for row in rows if all(isinstance(text, str) for text in row["completions"])]
    assert len(rows) == 2997 > len(good), "as published, some answers are a bare true"
    with pytest.raises(DataError, match=r"pandalm.jsonl:\d+: column 'completions' must hold text: True"):
        read_feedback(path)
    feedback = read_feedback(path, on_error="skip")
    assert len(feedback.rankings) == len(good) == feedback.rows - len(feedback.problems)
    ties = sum(len(ranking.tiers) == 1 for ranking in feedback.rankings)
    assert ties == sum(row["rank"] == [1, 1] for row in good) > 0
    assert any(c.text == "" for group in feedback.completions.values() for c in group)
    pairs = write_feedback(tmp_path / "pairs.csv", "trl-preference", feedback)
    assert (pairs.rows, pairs.left_out) == (len(good) - ties, {"ties": ties})


def test_a_hundred_thousand_rows_in_seconds(tmp_path: Path) -> None:
    line = (
        '{{"prompt": "What is {0} + {0}?", "chosen": "It is {1}.", "rejected": "{0}?", "labeler": "l{2}"}}\n'
    )
    path = tmp_path / "many.jsonl"
    path.write_text("".join(line.format(n, 2 * n, n % 7) for n in range(100_000)))
    start = time.process_time()
    feedback = read_feedback(path)
    seconds = time.process_time() - start
    assert len(feedback.rankings) == 100_000
    assert seconds < 20, f"{seconds:.1f} s of processor time for 100,000 rows"
