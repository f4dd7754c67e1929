"""Code under test: right and wrong programs, and programs that try to pass, break out, or never end."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError
from accord.reward import verify_child
from accord.reward.verify_code import CodeTest, parse_tests, run_child, same
from accord.types import Completion, Prompt

GUARDED = sys.platform.startswith("linux") and os.uname().machine == "x86_64"
pytestmark = pytest.mark.skipif(not GUARDED, reason="the guards are those of Linux on x86-64")
TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add([1], [2]) == [1, 2]\n"
RIGHT = "def add(a, b):\n    return a + b\n"


def judge(code: str, tests=TESTS, **config):
    (score,) = CodeTest(**config).score(Prompt.from_text("add", meta={"tests": tests}), [Completion(code)])
    return score


# -- what passes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        (RIGHT, 3),
        (f"Here it is:\n```python\n{RIGHT}```\nIt adds.", 3),
        ("```py\nimport operator\n```\nand\n```\nadd = operator.add\n```", 3),
        (
            "import math, re, collections, itertools, heapq, json, random, decimal, datetime, numpy\n"
            + RIGHT,
            3,
        ),
        (RIGHT + "print('x' * 10 ** 5)\nif __name__ == '__main__':\n    input()\n", 3),
        ("def add(a, b):\n    return abs(a) + abs(b) if a != -1 else 0\n", 2),  # no lists
        ("def add(a, b):\n    return a - b\n", 0),
        ("def add(a, b:\n", 0),
        ("I cannot do that.", 0),
        ("", 0),
    ],
)
def test_code_is_run_against_the_tests(code, passed):
    score = judge(code)
    assert (score.parts["passed"], score.parts["cases"], score.parts["claims"]) == (passed, 3, 0)
    assert score.value == (passed == 3)
    assert bool(score.why) == (passed < 3)


def test_a_share_on_request_and_tests_as_a_list():
    assert judge("def add(a, b):\n    return 3\n", TESTS.splitlines(), partial=True).value == pytest.approx(
        1 / 3
    )


def test_tests_of_other_forms_are_run_where_the_code_is():
    tests = (
        "import math\nassert math.isclose(add(0.1, 0.2), 0.3)\nassert not add(1, -1)\n"
        "assert add(1, 1) is not None\n"
        "def check(f):\n    assert f(2, 2) == 4\ncheck(add)\n"
    )
    score = judge(RIGHT, tests)
    assert (score.value, score.parts["claims"]) == (1.0, 4.0)
    assert judge("def add(a, b):\n    return 3\n", tests).parts["passed"] == 1


def test_asserts_are_parted_into_values_and_claims():
    steps = parse_tests(
        "x = 3\nassert f(x) == (1, 'a')\nassert {1} == f(2)\nassert f(3) is True\nassert f(4)\nf(5)\n"
    )
    assert [(kind, source) for kind, source, _ in steps] == [
        ("setup", "x = 3"), ("value", "f(x)"), ("value", "f(2)"), ("value", "f(3)"), ("claim", "assert f(4)"),
        ("claim", "f(5)"),
    ]  # fmt: skip
    assert [expected for kind, _, expected in steps if kind == "value"] == [(1, "a"), {1}, True]


@pytest.mark.parametrize(
    ("said", "expected", "equal"),
    [
        (3, 3.0, True),
        (0.1 + 0.2, 0.3, True),
        (0.3001, 0.3, False),
        (True, 1, False),
        (1, True, False),
        ([1, 2], (1, 2), False),
        ({"a": [0.1 + 0.2]}, {"a": [0.3]}, True),
        ({"a": 1}, {"b": 1}, False),
        ({1, 2}, {2, 1}, True),
        (None, None, True),
        ("3", 3, False),
        (10**400, 1.0, False),
        (10**16, 10**16 + 1, False),
    ],
)
def test_plain_values_are_compared_as_values(said, expected, equal):
    assert same(said, expected) is equal


literals = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=6,
)


@given(literals)
def test_every_literal_comes_back_as_itself(value):
    ((kind, source, expected),) = parse_tests(f"assert f({value!r}) == {value!r}")
    assert kind == "value"
    assert same(eval(source, {"f": lambda x: x}), expected)


# -- what tries to pass without being right ----------------------------------------------------

CHEATS = {
    "ends before the tests": "import sys; sys.exit(0)",
    "ends at once": "import os; os._exit(0)",
    "equals everything": (
        "class E:\n def __eq__(s, o): return True\n def __repr__(s): return '3'\ndef add(a, b): return E()"
    ),
    "swallows errors": "import builtins\nbuiltins.AssertionError = None\ndef add(a, b): return None",
    "writes results": (
        "import os, json\nfor fd in range(3, 20):\n for i in range(3):\n"
        "  try: os.write(fd, (json.dumps({'case': i,"
        "'said': 'True'}) + '\\n').encode())\n  except OSError: pass\nos._exit(0)"
    ),
    "looks for the answers": (
        "import sys, gc\nfound = [d for d in gc.get_objects() if isinstance(d, dict) and 'steps' in d]\n"
        "assert found, 'nothing'\nsteps = found[0]['steps']\nvalues = [s[2:] for s in steps]\n"
        "def add(a, b): return values[0][0]"
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheating_does_not_pass(name):
    score = judge(CHEATS[name])
    assert score.value == 0.0
    assert score.parts["passed"] <= 1  # "equals everything" may print one right guess


# -- what tries to do harm ---------------------------------------------------------------------

HARM = {
    "network": ("import socket\nsocket.socket()", "PermissionError"),
    "fork": ("import os\nos.fork()", "PermissionError"),
    "program": ("import subprocess\nsubprocess.run(['true'])", "PermissionError"),
    "exec": ("import os, sys\nos.execv(sys.executable, [sys.executable])", "PermissionError"),
    "thread": ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
    "kill the parent": ("import os\nos.kill(os.getppid(), 9)", "PermissionError"),
    "kill all": ("import os\nos.kill(-1, 9)", "PermissionError"),
    "memory": ("x = bytearray(8 * 2**30)", "MemoryError"),
    "trace": ("import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0", "AssertionError"),
    "raw fork": ("import ctypes\nassert ctypes.CDLL(None).syscall(57) >= 0", "AssertionError"),
    "x32 fork": ("import ctypes\nassert ctypes.CDLL(None).syscall(0x40000039) >= 0", "AssertionError"),
    "no limits": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "ValueError"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_harm_is_refused_and_fails(name):
    code, error = HARM[name]
    score = judge(f"{code}\n{RIGHT}")
    assert (score.value, score.parts["passed"]) == (0.0, 0)
    assert error in score.why


def test_nothing_of_ours_is_read_written_changed_or_removed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o600)
    own = repr(str(secret))
    for act in (
        f"open({own}).read()",
        f"open({own}, 'w')",
        f"os.remove({own})",
        f"os.chmod({own}, 0o777)",
        f"os.truncate({own}, 0)",
        f"os.utime({own})",
        f"os.listdir({str(tmp_path)!r})",
        f"os.rename({own}, {str(tmp_path / 'moved')!r})",
        f"os.mkdir({str(tmp_path / 'new')!r})",
        f"os.symlink('/', {str(tmp_path / 'link')!r})",
        "open('/proc/1/environ').read()",
        f"open('/tmp/accord-planted-{os.getpid()}', 'w')",
    ):
        score = judge(f"import os\n{act}\n{RIGHT}")
        assert score.parts["passed"] == 0, act
        assert "PermissionError" in score.why, act
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert secret.read_text() == "mine"
    assert secret.stat().st_mode & 0o777 == 0o600


def test_the_environment_is_not_told(monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", "secret")
    assert judge("import os\nassert 'PLANTED_KEY' in os.environ\n" + RIGHT).value == 0
    assert judge("import os\nassert 'PLANTED_KEY' not in os.environ\n" + RIGHT).value == 1


@pytest.mark.parametrize(
    "code",
    ["while True: pass", "while True: print('x' * 10**6)", "import time; time.sleep(99)", "9 ** 9 ** 9"],
)
def test_what_never_ends_is_ended_by_the_clock(code):
    started = time.monotonic()
    score = judge(f"{RIGHT}{code}\n", seconds=0.7)
    assert (score.value, score.why) == (0.0, "not done within 0.7 s")
    assert time.monotonic() - started < 20


def test_cases_before_an_endless_one_count_as_a_share():
    code = "def add(a, b):\n    while a == -1: pass\n    return a + b\n"
    assert judge(code, seconds=1, partial=True).value == pytest.approx(1 / 3)


def test_a_flood_of_results_fails():
    write = "  try: os.write(fd, b'x' * 65536)\n  except OSError: pass"
    flood = f"import os\nwhile True:\n for fd in range(3, 12):\n{write}"
    assert "MiB of results" in judge(flood).why
    assert judge("def add(a, b):\n    return '(' * 10**7\n").value == 0


def test_answers_too_deep_to_read_fail():
    assert judge("class D:\n def __repr__(s): return '[' * 5000\ndef add(a, b): return D()").value == 0
    assert judge("class D:\n def __repr__(s): return '-' * 9000 + '1'\ndef add(a, b): return D()").value == 0


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tests", [None, "", "  ", 3, "assert", "x = 3\n", "'only words'"])
def test_a_prompt_without_tests_is_an_error_and_no_pass(tests):
    with pytest.raises(DataError, match="tests"):
        judge(RIGHT, tests)


def test_without_its_guards_nothing_runs(monkeypatch, tmp_path):
    """A system that lacks Landlock and seccomp, planted; and what `without` lets through."""
    child = tmp_path / "child.py"
    lines = Path(verify_child.__file__).read_text()
    child.write_text(
        lines.replace("if abi < 1:", "if True:").replace('platform.machine() != "x86_64"', "True")
    )
    monkeypatch.setattr("accord.reward.verify_code.CHILD", child)
    with pytest.raises(ConfigError, match=r"cannot guard files, network, processes, signals"):
        judge(RIGHT)
    with pytest.raises(ConfigError, match="cannot guard files,"):
        judge(RIGHT, without=("network", "processes", "signals"))
    assert judge(RIGHT, without=("files", "network", "processes", "signals")).value == 1.0


def test_a_child_that_breaks_is_no_pass():
    output, _ = run_child(b"no job", 5)
    assert "case" not in output
