"""Runs one program against its cases behind what guards the system has; a script, started by ``verify_code``.

It reads a job from standard input, puts up the guards, runs the code, and writes a line for each case that
came to an end. What the right answers are it is never told. Standard library only.

The guards, each of which holds for the process until it ends:

    time       CPU seconds (the parent ends it by the clock besides)
    memory     address space
    files      Landlock: nothing can be written, made, renamed or removed anywhere, and nothing read but
               Python and the system's libraries; no file can grow
    network    seccomp: no sockets
    processes  seccomp: no fork, no exec, no threads
    signals    seccomp: no signals, no tracing, no other process's memory
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock; the same numbers on every architecture
READS = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, list a folder
READ_A_FILE = 1 << 2
READABLE = (sys.base_prefix, sys.prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime",
            "/dev/null", "/dev/urandom")  # fmt: skip
X86_64 = 0xC000003E
DENIED = (
    41, 42, 53,  # socket, connect, socketpair
    56, 57, 58, 59, 322, 435,  # clone, fork, vfork, execve, execveat, clone3
    62, 129, 200, 234, 297, 424, 434, 438,  # signals to processes, threads and descriptors of them
    101, 310, 311, 302, 312,  # ptrace, other processes' memory and limits, kcmp
    90, 91, 268, 452, 92, 93, 94, 260,  # modes and owners, which Landlock leaves alone
    132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466,  # times and attributes
    29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240,  # memory, semaphores and queues that outlive a process
    272, 308, 165, 166, 155, 161, 428, 429, 430, 432, 442,  # namespaces and mounts
    321, 323, 298, 425, 426, 427, 248, 249, 250, 300, 303, 304,  # bpf to file handles
    109, 112, 141, 203, 314, 142, 144, 135,  # sessions, priorities, personality
    169, 175, 176, 313, 246, 320, 167, 168, 164, 159, 227, 305, 170, 171, 172, 173, 179,  # the machine
)  # fmt: skip


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class _Step(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Step)))


def limit(seconds: int, memory: int) -> set[str]:
    """CPU time, address space, file size, core files; the guards that this puts up."""
    up = set()
    for name, guard, number in (
        ("RLIMIT_CPU", "time", seconds),
        ("RLIMIT_AS", "memory", memory),
        ("RLIMIT_FSIZE", "", 0),
        ("RLIMIT_CORE", "", 0),
        ("RLIMIT_NPROC", "", 0),
        ("RLIMIT_NOFILE", "", 64),
    ):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (number, number))
            up.add(guard)
    return up - {""}


def confine_files() -> bool:
    """Landlock over every access it knows, with reading allowed where Python lives."""
    abi = LIBC.syscall(CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return False
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    handled = ctypes.c_uint64((1 << bits) - 1)
    ruleset = LIBC.syscall(CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        return False
    for path in dict.fromkeys(READABLE):
        if not os.path.exists(path):
            continue
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _Rule(READS if os.path.isdir(path) else READ_A_FILE, place)
        added = LIBC.syscall(ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
        os.close(place)
        if added:
            return False
    confined = LIBC.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return confined


def deny_calls() -> bool:
    """A seccomp filter that answers the denied calls with "not permitted"; x86-64 only."""
    if platform.machine() != "x86_64":
        return False
    load, jump_equal, jump_least, answer = 0x20, 0x15, 0x35, 0x06
    deny = len(DENIED) + 6  # the last step's place; a jump counts from the step after it
    steps = [
        _Step(load, 0, 0, 4),  # the architecture: another one numbers its calls otherwise
        _Step(jump_equal, 1, 0, X86_64),
        _Step(answer, 0, 0, 0x80000000),
        _Step(load, 0, 0, 0),  # the call's number
        _Step(jump_least, deny - 5, 0, 0x40000000),  # x32: the same calls by other numbers
    ]
    steps += [_Step(jump_equal, deny - 6 - i, 0, number) for i, number in enumerate(DENIED)]
    steps += [_Step(answer, 0, 0, 0x7FFF0000), _Step(answer, 0, 0, 0x00050001)]
    program = _Program(len(steps), (_Step * len(steps))(*steps))
    return LIBC.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0) == 0


def drop_capabilities() -> bool:
    """Root without any power over what others own or the kernel."""
    if os.geteuid():
        return True
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    return LIBC.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())) == 0


def put_up_guards(seconds: int, memory: int) -> set[str]:
    """What of the guards this system has, put up; nothing takes them down again."""
    up = limit(seconds, memory)
    if not sys.platform.startswith("linux"):
        return up
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and drop_capabilities():
        if confine_files():
            up.add("files")
        if deny_calls():
            up |= {"network", "processes", "signals"}
    return up


def run(job: dict[str, Any], results: int) -> None:
    """The code, then each step of the tests; a line for each case that ends."""

    def say(line: dict[str, Any]) -> None:
        os.write(results, (json.dumps(line) + "\n").encode())

    up = put_up_guards(job["seconds"], job["memory"])
    missing = sorted(set(job["guards"]) - up)
    if missing:
        say({"missing": missing})
        return
    say({"ready": True})
    space: dict[str, Any] = {"__name__": "solution"}
    exec(compile(job["code"], "solution.py", "exec"), space)
    for number, (kind, source) in enumerate(job["steps"]):
        if kind == "setup":
            exec(compile(source, "tests.py", "exec"), space)
            continue
        try:
            if kind == "value":
                said = repr(eval(compile(source, "tests.py", "eval"), space))
            else:
                exec(compile(source, "tests.py", "exec"), space)
                said = "True"
        except Exception as error:
            said = ""
            say({"case": number, "error": f"{type(error).__name__}: {error}"[:200]})
        if said:
            say({"case": number, "said": said[: job["longest"]]})


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    results = os.dup(1)
    with open(os.devnull, "r+b", buffering=0) as nowhere:
        for standard in (0, 1, 2):
            os.dup2(nowhere.fileno(), standard)
    try:
        run(job, results)
    except BaseException as error:  # the code's own, SystemExit too: the parent learns what it was
        os.write(results, (json.dumps({"ended": f"{type(error).__name__}: {error}"[:200]}) + "\n").encode())
    os._exit(0)  # nothing of the code's runs after its cases


if __name__ == "__main__":
    main()
