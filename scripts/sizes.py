#!/usr/bin/env python3
"""Lines of every source file, the longest functions, and what is over the house's limits.

    scripts/sizes.py [FOLDER ...]

Over a soft limit is worth a look; over a hard one fails the architecture test (and exits with 1).
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_SOFT, FILE_HARD = 400, 600
FUNCTION_SOFT, FUNCTION_HARD = 60, 90


def files(*folders: Path) -> dict[Path, int]:
    """Python files with their lines, longest first."""
    found = {p: len(p.read_text(encoding="utf-8").splitlines()) for f in folders for p in f.rglob("*.py")}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def functions(*folders: Path) -> dict[str, int]:
    """ "file:line name" of functions and methods with their lines, longest first."""
    found = {}
    for path in files(*folders):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{path}:{node.lineno} {node.name}"] = (
                    (node.end_lineno or node.lineno) - node.lineno + 1
                )
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def over(*folders: Path, hard: bool) -> list[str]:
    """The files and functions over a limit, with the limit."""
    file_limit, function_limit = (FILE_HARD, FUNCTION_HARD) if hard else (FILE_SOFT, FUNCTION_SOFT)
    long_files = [
        f"{path}: {n} lines, at most {file_limit}" for path, n in files(*folders).items() if n > file_limit
    ]
    return long_files + [
        f"{place}: {n} lines, at most {function_limit}"
        for place, n in functions(*folders).items()
        if n > function_limit
    ]


def main() -> int:
    folders = [Path(folder) for folder in sys.argv[1:]] or [ROOT / "src"]
    lines = files(*folders)
    for path, count in lines.items():
        if count:
            print(f"{count:6,}  {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    print(f"{sum(lines.values()):6,}  in {len(lines)} files")
    print("longest functions:")
    for place, count in list(functions(*folders).items())[:10]:
        print(f"{count:6,}  {place.removeprefix(f'{ROOT}/')}")
    print("over a soft limit:")
    print(
        "\n".join(f"        {line.removeprefix(f'{ROOT}/')}" for line in over(*folders, hard=False))
        or "        none"
    )
    return 1 if over(*folders, hard=True) else 0


if __name__ == "__main__":
    sys.exit(main())
