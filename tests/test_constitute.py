"""The verb `accord constitute` before anything is loaded: where its step stands, and idle flags."""

from __future__ import annotations

import pytest

from accord.cli import main


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(["constitute", *words])
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (("--json", "check", "a b.toml"), "check --json 'a b.toml'"),
        (("-w", "desk", "prefer", "--judge", "m"), "prefer -w desk --judge m"),
        (("-w", "judge", "prefer"), "prefer -w judge"),
        (("--model", "revise", "--json", "supervise"), "supervise --model revise --json"),
    ],
)
def test_a_step_behind_options_is_refused_with_what_to_type(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], typed: str
) -> None:
    assert f"options behind it: accord constitute {typed}" in refused(capsys, *words)


def test_options_behind_the_step_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["constitute", "check", "--json"])
    assert left.value.code == 0
    assert '"principles"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "flag", ["--pairs", "--of", "--most-flipped", "--most-unusable", "--most_flipped", "--pairs=3"]
)
def test_judge_refuses_what_only_prefer_heeds(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    said = refused(capsys, "judge", "--judge", "m", flag, "1")
    assert said.startswith(
        f"error: {flag.split('=')[0].replace('_', '-')} is of `accord constitute prefer` alone"
    )
