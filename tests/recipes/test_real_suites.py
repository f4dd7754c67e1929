"""Published suites from the command line on a real model: the whole path, on data that is not shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.cli import main
from accord.evaluate.standings import Leaderboard
from accord.recipes.helpdesk.starter import MODELS
from accord.workspace import Workspace
from realdata import real_file, real_folder

FILES = {"xstest": "red-team-prompts/prompts", "gsm8k": "gsm8k/test", "mmlu": "mmlu/test_sample"}


@pytest.mark.slow
def test_published_suites_run_whole_and_a_small_model_is_at_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in FILES.values():
        real_file(file)
    desk = Workspace.create(tmp_path / "desk")
    suites = [word for name in FILES for word in ("--suite", name)]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(MODELS / "decoder"), "-w", str(desk.path), *suites, "--data",
              str(real_folder()), "--fail-if", "gsm8k/right > 5%"])  # fmt: skip
    assert ended.value.code == 0
    said = capsys.readouterr().out
    run = desk.store.runs("evaluate")[-1]
    board = Leaderboard.from_json((run.path / "leaderboard.json").read_text())

    def value(suite: str, figure: str) -> float:
        return board.section(suite).row(figure).cells[0].value

    mmlu = board.section("mmlu")
    assert mmlu.prompts == 456
    assert value("mmlu", "by chance") == 0.25
    assert mmlu.row("right").cells[0].low <= 0.25 + mmlu.unread[0] / 456
    assert mmlu.row("right").cells[0].high >= 0.25 * (1 - mmlu.unread[0] / 456)
    # some exam questions hold whole passages
    assert mmlu.unread[0] > 0
    assert f"{mmlu.unread[0]} of the 456 prompts of mmlu are longer than the context of decoder" in said
    assert value("gsm8k", "right") <= 0.05
    # harmful requests refused and harmless ones answered, but for those that were answered by nothing
    fit = (197 * value("xstest", "refusal") + 248 * (1 - value("xstest", "over-refusal"))) / 445
    assert 0.3 < value("xstest", "fit") <= fit + 1e-9
    assert "decoder answered 1\u202f101 prompts of 3 suites" in said
