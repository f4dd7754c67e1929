"""The documentation is true: its Python runs, its commands parse, and nothing public goes unnamed.

Pages run against one prepared folder (tiny random models, a workspace through which every step has
gone), copied for each page. The blocks of a page share one namespace, as a reader would type them.
"""

import contextlib
import functools
import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import tyro

import accord
import docs_settings
from accord import errors
from accord.cli import VERBS, main
from accord.feedback.formats.gather import Format
from accord.lm.tiny import write_tiny
from accord.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
CHEAP = {"init", "import", "agree", "export", "doctor"}
"""Verbs that the test runs and does not only parse..."""
DEAR = {"hf:OWNER/NAME:train", "my-model", "tasks.jsonl"}
"""...but for commands with these words: the hub is not there, a model's checks run as Python, and tasks
need completions sampled first (tests/test_cli.py goes that way)."""
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[list[str]]:
    """The words of every ``accord`` and ``cd`` line, continued lines joined, comments left out."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words and words[0] in ("accord", "cd")]


def run(*argv: object) -> None:
    """A verb of the command line, which must end well."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    assert not ended.value.code, argv


def parse(words: list[str]) -> dict:
    """What the real parser of a verb makes of its words; SystemExit where it refuses them."""
    verb, *rest = words
    assert verb in VERBS, f"there is no verb {verb!r}"
    build = VERBS[verb]([*rest, "--help"])  # a verb's defaults outside of a workspace
    return tyro.cli(functools.wraps(build)(lambda **given: given), args=rest)


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and files by the names that the pages use, and ``desk``, a workspace with every run in it."""
    folder = tmp_path_factory.mktemp("docs")
    write_tiny(folder / "my-model", "llama", chat=True)
    write_tiny(folder / "other-model", "llama", chat=True, seed=1)
    write_tiny(folder / "my-seq2seq", "t5")
    write_tiny(folder / "my-classifier", "bert", labels=2)
    write_rows(folder / "prompts.jsonl", [{"prompt": f"Where is parcel {i}?"} for i in range(6)])
    write_rows(folder / "held_out.jsonl", [{"prompt": f"May I return parcel {i}?"} for i in range(3)])
    completions = ["It left on Friday.", "No idea.", "Go away."]
    rankings = [
        {"prompt": f"Question {i}?", "completions": completions, "labeler": f"labeler-{k}",
         "tiers": [[0], [1]] if (i + k) % 4 else [[0, 1]], "fails": [2],
         "criterion": "helpful"}
        for i in range(12) for k in range(2)
    ]  # fmt: skip
    write_rows(folder / "rankings.jsonl", rankings)
    write_rows(folder / "filled.jsonl", rankings)
    (folder / "pairs.csv").write_text("question,better,worse\nWhere is it?,At the depot.,Go away.\n")
    run("init", folder / "desk", "--json")
    desk = ("-w", folder / "desk", "--json")
    run("import", folder / "prompts.jsonl", "--split", "train", *desk)
    run("import", folder / "held_out.jsonl", "--split", "holdout", *desk)
    run("import", folder / "rankings.jsonl", *desk)
    model = ("--model", folder / "my-model", "--max-new-tokens", 4)
    run("sample", *model, "--n", 2, "--split", "train", *desk)
    run("agree", *desk)
    run("reward", "--base", folder / "my-model", *desk)
    small = ("--steps", 2, "--prompts-per-step", 2, "--minibatch", 2, "--epochs", 1, "--lora-rank", 2)
    run("align", *model, "--split", "train", *small, *desk)
    return folder


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``world`` to stand in."""
    shutil.copytree(world, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_the_python_of_a_page_runs(page: Path, place: Path) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "page"}
    for number, body in enumerate(blocks(page, "python"), start=1):
        exec(compile(body, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_the_commands_of_a_page_parse(page: Path) -> None:
    for words in commands(page):
        if words[0] == "accord":
            parse(words[1:])


def test_a_wrong_flag_or_verb_is_noticed() -> None:
    with pytest.raises(SystemExit):
        parse(["sample", "--modle", "my-model"])
    with pytest.raises(SystemExit):
        parse(["sample", "--n", "many"])
    with pytest.raises(AssertionError):
        parse(["smaple"])


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_the_cheap_commands_of_a_page_run(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(words[1:2] == ["init"] for words in commands(page)):
        shutil.rmtree("desk")
    else:
        for name in ("prompts.jsonl", "held_out.jsonl", "rankings.jsonl", "filled.jsonl", "pairs.csv"):
            shutil.copy(name, "desk")
        shutil.copytree("my-model", "desk/my-model")
        shutil.copytree("desk", "desk/desk")  # such pages name it or stand in it
        monkeypatch.chdir("desk")
    for words in commands(page):
        if words[0] == "accord" and words[1] in CHEAP and not any(word in DEAR for word in words):
            run(*words[1:])


# -- nothing public goes unnamed ---------------------------------------------------------------


def test_every_verb_format_error_and_public_name_is_in_the_docs() -> None:
    names = [f"accord {verb}" for verb in VERBS]
    names += [f"`{name}`" for name in accord.__all__]
    names += [f"`{format}`" for format in Format]
    names += [f"`{name}`" for name, value in vars(errors).items() if isinstance(value, type)]
    assert [name for name in names if name not in TEXT] == []


def test_every_flag_of_a_verb_is_in_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings stand on their page with underscores; a verb's own flags stand on its page."""
    unnamed, seen = [], set()
    for verb, *more in [
        *([verb] for verb in VERBS),
        *(["align", f"--algorithm={x}"] for x in ("dpo", "rft")),
    ]:
        with contextlib.suppress(SystemExit):
            parse([verb, *more, "--help"])
        flags = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        seen |= flags
        for flag in flags - {"--help"}:
            setting = flag.removeprefix("--").replace("-", "_")
            if not (flag in TEXT or f"`{setting}`" in TEXT or flag.startswith("--no-")):
                unnamed.append(f"{verb} {flag}")
    assert {"--n", "--split", "--resume"} <= seen
    assert unnamed == []


def test_the_page_of_settings_is_up_to_date() -> None:
    assert docs_settings.PAGE.read_text(encoding="utf-8") == docs_settings.page(), (
        "the settings changed; run scripts/docs_settings.py"
    )


def test_every_name_of_the_reference_exists() -> None:
    rows = re.findall(r"^\| `(accord\.[\w.]+)` \| (.*) \|$", (DOCS / "reference.md").read_text(), re.M)
    assert len(rows) > 20
    for module, names in rows:
        owner: object = importlib.import_module(module)
        last: object = owner
        for name in re.findall(r"`([\w.]+)`", names):
            held = last if name.startswith(".") else owner
            if ":" in names and name != re.findall(r"`([\w.]+)`", names)[0]:
                held = last  # `Store`: its methods
            for part in name.strip(".").split("."):
                assert hasattr(held, part), f"{module}: {name}"
                if isinstance(getattr(held, part), type):
                    last = getattr(held, part)
                held = getattr(held, part)


def test_every_setting_of_a_new_workspace_is_on_the_page(place: Path) -> None:
    """The commented settings of accord.toml and the page say the same names."""
    run("init", "fresh", "--json")
    named = re.findall(r"^# (\w+) =", (Path("fresh") / "accord.toml").read_text(), re.M)
    page = docs_settings.PAGE.read_text(encoding="utf-8")
    assert len(named) > 60
    assert [name for name in named if f"| `{name}` |" not in page] == []
    assert Workspace.open("fresh").section("sample") == {}
