#!/usr/bin/env python3
"""The reading set: every first-party line one has to read to know what a module does.

    scripts/reading_set.py [MODULE] [--root FOLDER]

It prints each module that MODULE (accord.align.online unless given) reaches by imports, those inside
functions and under TYPE_CHECKING included, with its lines and the sum. Exit status 2 where there is
no such module.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
ENTRY = "accord.align.online"
LIMIT = 3000


def modules(source: Path) -> dict[str, Path]:
    """Dotted name to file of every module under ``source``; a package goes by its own name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, known: dict[str, Path]) -> set[str]:
    """The first-party modules that ``name`` imports, anywhere in its text."""
    path = known[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    asked: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            asked |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
        ):
            asked |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return (asked & known.keys()) - {name}


def reading_set(entry: str, known: dict[str, Path]) -> dict[str, int]:
    """Module to lines, ``entry`` first; a package's ``__init__`` counts where a module of it is reached.

    What the root's ``__init__`` imports is not followed: it lists names for users, and no module reads them
    from there.
    """
    reached: dict[str, int] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop(0)
        if name in reached:
            continue
        reached[name] = len(known[name].read_text(encoding="utf-8").splitlines())
        parts = name.split(".")
        packages = {".".join(parts[:n]) for n in range(1, len(parts))} & known.keys()
        listing = "." not in name and name != entry
        waiting += [] if listing else sorted(imports(name, known) | packages)
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", nargs="?", default=ENTRY)
    parser.add_argument("--root", type=Path, default=SOURCE, help="the folder that holds the package")
    given = parser.parse_args()
    known = modules(given.root)
    if given.module not in known:
        print(f"reading_set: there is no module {given.module} under {given.root}", file=sys.stderr)
        return 2
    lines = reading_set(given.module, known)
    for name, count in sorted(lines.items(), key=lambda item: -item[1]):
        if count:
            print(f"{count:6,}  {name}")
    print(
        f"{sum(lines.values()):6,}  the reading set of {given.module} (under {LIMIT:,} is asked of {ENTRY})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
