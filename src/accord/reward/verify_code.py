"""Whether a completion's Python passes the prompt's tests, in a process of its own behind guards.

``prompt.meta["tests"]`` holds plain asserts. Of ``assert EXPRESSION == LITERAL`` only the expression is sent:
its value comes back and is compared here, so a program cannot know what it should say, nor answer with an
object that equals everything, nor end before its tests and pass. Any other assert is judged where the
program runs, and a program written to deceive can forge it; ``parts["claims"]`` counts those.

The guards are Linux's own (see ``verify_child``): limits, Landlock, seccomp. They keep a model's program from
files, network, processes and signals. They are no proof against somebody who attacks the kernel: for code
of people you distrust use a machine of its own. Where a guard is missing nothing runs, unless ``without``
names it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from accord.errors import ConfigError, DataError
from accord.reward.rules import Rule
from accord.types import Completion, Prompt, Score

CHILD = Path(__file__).with_name("verify_child.py")
GUARDS = ("time", "memory", "files", "network", "processes", "signals")
Guard = Literal["time", "memory", "files", "network", "processes", "signals"]
LARGEST = 2**20
"""Bytes of results that are read; more is a flood, and fails."""
LONGEST = 2**14
"""Characters of one value."""
ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""The whole environment of the code: nobody's keys, and numpy without the threads that it may not start."""
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.S)


class CodeTest(Rule):
    """1 where the completion's code passes every test of the prompt, else 0.

    The code is what stands between ``` marks, all blocks together, or the whole text without any.
    """

    tests: str = "tests"
    """Where the tests stand: ``prompt.meta[tests]``, a text of asserts or a list of them."""
    partial: bool = False
    """Give the share of cases passed, and not all or nothing."""
    seconds: float = Field(5.0, gt=0, le=3600)
    """Time for the code and all its tests."""
    memory: int = Field(512, ge=64)
    """MiB of address space."""
    without: tuple[Guard, ...] = ()
    """Guards that this system may lack: of time, memory, files, network, processes, signals."""

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """1 or 0 (or a share); parts ``passed``, ``cases``, ``claims``.

        Raises:
            DataError: the prompt has no tests, or what is no Python.
            ConfigError: this system lacks a guard that ``without`` does not name.
        """
        steps = self._steps(prompt)
        blocks = _FENCE.findall(completion.text)
        code = "\n".join(blocks) if blocks else completion.text
        said, fault = self._run(code, steps)
        cases = [number for number, step in enumerate(steps) if step[0] != "setup"]
        failed = [n for n in cases if n not in said or not same(said[n], steps[n][2])]
        passed = len(cases) - len(failed)
        claims = sum(step[0] == "claim" for step in steps)
        why = fault if failed else ""
        if failed and not why:
            why = f"fails: {steps[failed[0]][1][:120]}"
        value = passed / len(cases) if self.partial else float(not failed)
        parts = {"passed": float(passed), "cases": float(len(cases)), "claims": float(claims)}
        return Score(value, parts, why)

    def _steps(self, prompt: Prompt) -> list[tuple[str, str, Any]]:
        given = prompt.meta.get(self.tests)
        text = "\n".join(map(str, given)) if isinstance(given, list | tuple) else given
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"prompt {prompt.id!r} has no tests in meta[{self.tests!r}] (it is {given!r}); a test is a "
                "line such as: assert add(1, 2) == 3"
            )
        try:
            steps = parse_tests(text)
        except SyntaxError as error:
            raise DataError(f"the tests of prompt {prompt.id!r} are no Python: {error}") from None
        if all(kind == "setup" for kind, _, _ in steps):
            raise DataError(
                f"the tests of prompt {prompt.id!r} assert nothing, so any code would pass: {text[:90]!r}; a "
                "test is a line such as: assert add(1, 2) == 3"
            )
        return steps

    def _run(self, code: str, steps: Sequence[tuple[str, str, Any]]) -> tuple[dict[int, Any], str]:
        """What came back by the case's number, and what went wrong, in words."""
        job = {"code": code, "steps": [step[:2] for step in steps], "longest": LONGEST,
               "guards": [guard for guard in GUARDS if guard not in self.without],
               "seconds": math.ceil(self.seconds) + 1, "memory": self.memory * 2**20}  # fmt: skip
        output, fault = run_child(json.dumps(job).encode(), self.seconds)
        said: dict[int, Any] = {}
        ready = False
        for line in output.splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the code writes here too if it finds out how; only answers count
            if not ready and isinstance(row, dict) and "missing" in row:
                raise ConfigError(
                    f"this system cannot guard {', '.join(row['missing'])}, so no model's code is run; use "
                    f"Linux on x86-64, or a machine that may be harmed and without = {row['missing']}"
                )
            ready = True
            told = _read(row, said)
            fault = fault or told
        return said, fault


def parse_tests(text: str) -> list[tuple[str, str, Any]]:
    """The steps of ``text``: (kind, source, expected value).

    ``value``: an expression and the literal it should equal. ``claim``: an assert or call of another form,
    which passes where it raises nothing. ``setup``: anything else. Raises SyntaxError.
    """
    steps: list[tuple[str, str, Any]] = []
    for node in ast.parse(text).body:
        source = ast.unparse(node)
        if isinstance(node, ast.Assert):
            steps.append(_comparison(node.test) or ("claim", source, True))
        elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            steps.append(("claim", source, True))
        else:
            steps.append(("setup", source, None))
    return steps


def _comparison(test: ast.expr) -> tuple[str, str, Any] | None:
    """``EXPRESSION == LITERAL``, either way round; ``is`` with True, False and None too."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    for expression, literal in ((test.left, test.comparators[0]), (test.comparators[0], test.left)):
        with contextlib.suppress(ValueError):
            expected = ast.literal_eval(literal)
            plain = isinstance(test.ops[0], ast.Is) and (expected is None or isinstance(expected, bool))
            if plain or isinstance(test.ops[0], ast.Eq):
                return "value", ast.unparse(expression), expected
    return None


def same(said: Any, expected: Any) -> bool:
    """Equality of plain values, numbers up to a float's rounding."""
    if isinstance(said, bool) or isinstance(expected, bool):
        return said is expected
    if isinstance(said, int | float) and isinstance(expected, int | float):
        inexact = isinstance(said, float) or isinstance(expected, float)
        close = inexact and abs(said) < 1e300 and math.isclose(said, expected, rel_tol=1e-9, abs_tol=1e-12)
        return said == expected or close
    if type(said) is not type(expected):
        return False
    if isinstance(said, list | tuple):
        return len(said) == len(expected) and all(map(same, said, expected))
    if isinstance(said, dict):
        return said.keys() == expected.keys() and all(same(said[key], expected[key]) for key in said)
    return said == expected


def _read(row: Any, said: dict[int, Any]) -> str:
    """One line of the child's, which the code could have written too; a fault in words, or ""."""
    if not isinstance(row, dict):
        return ""
    if "ended" in row:
        return f"ended by {str(row['ended'])[:200]}"
    if isinstance(row.get("case"), int) and isinstance(row.get("said"), str):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            said.setdefault(row["case"], ast.literal_eval(row["said"]))
    elif "error" in row:
        return f"raises {str(row['error'])[:200]}"
    return ""


def run_child(job: bytes, seconds: float) -> tuple[str, str]:
    """What the child wrote before it ended, was killed by the clock, or wrote too much; and which it was."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=ALONE, cwd="/", start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    output, fault = b"", ""
    try:
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(job)
        deadline = time.monotonic() + seconds
        while True:
            ready = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                fault = f"not done within {seconds:g} s"
                break
            part = os.read(child.stdout.fileno(), 2**16)
            output += part
            if len(output) > LARGEST:
                return "", f"more than {LARGEST >> 20} MiB of results"
            if not part:
                break
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
    return output.decode("utf-8", "replace"), fault
