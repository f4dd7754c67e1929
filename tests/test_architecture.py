"""The house keeps its shape: layers, stages apart, no torch where none belongs, sizes, exports.

The checks are functions of a source folder, and each is seen to catch a planted violation in a toy one.
"""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import accord
from reading_set import ENTRY, LIMIT, SOURCE, imports, modules, reading_set
from sizes import FILE_HARD, FUNCTION_HARD, over

STAGES = {"feedback", "reward", "align", "constitution", "evaluate", "compress", "agents", "govern"}
LAYERS = [
    {"cli", "constitute", "verbs", "flags", "__main__"},
    {"recipes"},
    {"serve"},
    STAGES,
    {"lm"},
    {"rl"},
    {"workspace", "store", "stats"},
    {
        "types",
        "judgements",
        "judging",
        "posting",
        "chat",
        "chat_chooser",
        "reasoning",
        "refusals",
        "environment",
        "errors",
        "config",
        "terminal",
        "accord",
    },
]
"""From the top; the last holds the package's own ``__init__`` too. A module imports downwards, from its
own room, or (but for the stages) from its own layer."""
DEPTH = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}
TORCHLESS = (
    "store", "stats", "feedback", "evaluate", "workspace", "types", "judgements", "judging", "posting",
    "chat", "chat_chooser", "reasoning", "refusals", "environment", "errors", "config",
)  # fmt: skip


def room(module: str) -> str:
    """The first folder or file under the package."""
    return module.split(".")[1] if "." in module else module


def layer_faults(source: Path) -> list[str]:
    """Every import against the direction of the layers, and every room that is in none."""
    known = modules(source)
    faults = [f"{name} is in no layer" for name in known if room(name) not in DEPTH]
    for name in known:
        for other in sorted(imports(name, known)):
            here, there = room(name), room(other)
            if here == there or here not in DEPTH or there not in DEPTH:
                continue
            if here in STAGES and there in STAGES:
                faults.append(f"{name} imports {other}: stages never import one another")
            elif DEPTH[there] < DEPTH[here]:
                faults.append(f"{name} imports {other}: {here} stands below {there}")
    return faults


def filled_inits(source: Path) -> list[str]:
    """Packages below the root whose ``__init__`` holds anything."""
    return [
        name
        for name, path in modules(source).items()
        if path.name == "__init__.py" and "." in name and path.stat().st_size
    ]


def torch_loaders(source: Path, names: list[str]) -> str:
    """The first of the modules whose import, in a fresh interpreter, loads torch; "" where none does."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: print(name); break\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_imports_go_down_and_stages_stay_apart() -> None:
    assert layer_faults(SOURCE) == []


def test_only_the_root_init_holds_anything() -> None:
    assert filled_inits(SOURCE) == []


def test_files_and_functions_stay_under_the_hard_limits() -> None:
    assert over(SOURCE, hard=True) == []


def test_no_torch_for_who_labels_counts_or_reports() -> None:
    # alembic runs the migrations' scripts itself; they cannot be imported
    known = [name for name in modules(SOURCE) if "migrations" not in name]
    names = ["accord", *(name for name in known if room(name) in TORCHLESS)]
    assert len(names) > 20
    assert torch_loaders(SOURCE, names) == ""


def test_public_names_are_sorted_and_complete() -> None:
    public = {n for n, v in vars(accord).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert accord.__all__ == sorted(accord.__all__)
    assert set(accord.__all__) == public | {"__version__"}


def test_one_step_of_online_learning_can_be_read() -> None:
    """nanochat's has 2,753 lines, OpenRLHF's 6,140, TRL's 25,187."""
    lines = reading_set(ENTRY, modules(SOURCE))
    assert "accord.rl.losses" in lines
    assert sum(lines.values()) < LIMIT


def toy(tmp_path: Path, **files: str) -> Path:
    """A package ``accord`` of one-line modules, ``a__b`` for a/b.py."""
    for name, text in {"__init__": "", "types": "", "store____init__": "", **files}.items():
        path = tmp_path / "accord" / f"{name.replace('____', '/__').replace('__x', '/x')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            {"store__x": "import accord.lm.x", "lm__x": ""},
            "accord.store.x imports accord.lm.x: store stands below lm",
        ),
        (
            {"store__x": "def f():\n    from accord.lm import x", "lm__x": ""},
            "accord.store.x imports accord.lm.x",
        ),
        ({"rl__x": "from ..lm.x import y", "lm__x": ""}, "accord.rl.x imports accord.lm.x"),
        ({"reward__x": "from accord.align.x import y", "align__x": ""}, "stages never import one another"),
        ({"types": "import importlib\nimportlib.import_module('accord.store')"}, "types stands below store"),
        ({"attic__x": ""}, "accord.attic.x is in no layer"),
    ],
)
def test_a_planted_import_is_caught(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    faults = layer_faults(toy(tmp_path, **files))
    assert len(faults) == 1
    assert fault in faults[0]


def test_the_right_direction_is_no_fault(tmp_path: Path) -> None:
    files = {
        "cli": "import accord.align.x",
        "align__x": "from accord.lm import x",
        "lm__x": "import accord.types",
    }
    source = toy(tmp_path, **files)
    assert layer_faults(source) == []
    assert set(reading_set("accord.align.x", modules(source))) == {
        "accord",
        "accord.align.x",
        "accord.lm.x",
        "accord.types",
    }


def test_planted_sizes_exports_and_torch_are_caught(tmp_path: Path) -> None:
    body = "\n".join(["    x = 1"] * FUNCTION_HARD)
    source = toy(
        tmp_path,
        lm____init__="from accord import types\n",
        lm__xlong="#\n" * (FILE_HARD + 1),
        rl__x=f"def f():\n{body}\n",
        store__x="import accord.store.xtorch",
        store__xtorch="import torch",
    )
    (source / "torch.py").write_text("")  # stands in the way of the real one, which takes seconds
    assert filled_inits(source) == ["accord.lm"]
    assert len(over(source, hard=True)) == 2
    assert torch_loaders(source, ["accord", "accord.types", "accord.store.x"]) == "accord.store.x"
    assert sum(reading_set("accord.lm.xlong", modules(source)).values()) == FILE_HARD + 2
