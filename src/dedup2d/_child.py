"""
What runs inside a child process of `dedup2d.children`; standard library only.

Requests come on standard input, answers go to standard output, both as pickles with a
length of 8 bytes before them. Whatever native libraries print goes nowhere.

Run as a script (`_child.py PARENT COMMAND...`) it becomes a command that dies with its parent,
for `dedup2d.supervise`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import operator
import os
import pickle
import signal
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["main"]

LENGTH = struct.Struct(">Q")
_PR_SET_PDEATHSIG = 1
_RETIRE_AT = 0.4  # of the memory limit: a child that has grown so far is replaced when idle


def main(parent: int, memory_bytes: int) -> None:
    """Serve requests until standard input ends."""
    _die_with(parent)
    _limit_memory(memory_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    requests, answers = _private_pipes()
    while header := requests.read(LENGTH.size):
        answer = _answer(requests.read(LENGTH.unpack(header)[0]), memory_bytes)
        answers.write(LENGTH.pack(len(answer)))
        answers.write(answer)
        answers.flush()


def become(parent: int, command: list[str]) -> None:
    """Turn this process into *command*, which dies with *parent*; does not return."""
    _die_with(parent)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the parent says what it wants to run
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)  # as a shell says it


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move both pipes away from where a library could print into them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return requests, answers


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(os, "getppid") and os.getppid() != parent:
        os._exit(1)  # it died before the line above


def _limit_memory(memory_bytes: int) -> None:
    if not memory_bytes:
        return
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(request: bytes, memory_bytes: int) -> bytes:
    kind, value = _run(request)
    retire = kind == "memory" or _has_grown(memory_bytes)
    try:
        return pickle.dumps((kind, value, retire), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps(("memory", None, True))
    except Exception:  # noqa: BLE001 - whatever an object's own pickling raises
        return pickle.dumps(("broken", traceback.format_exc(), retire))


def _run(request: bytes) -> tuple[str, Any]:
    try:
        module, name, args = pickle.loads(request)  # noqa: S301 - from our own parent
        func = operator.attrgetter(name)(importlib.import_module(module))
        _use_one_thread()
        return "value", func(*args)
    except MemoryError:
        return "memory", None
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        return ("memory", None) if _is_out_of_memory(error) else ("error", error)


def _is_out_of_memory(error: BaseException) -> bool:
    return type(error).__name__ == "error" and "Insufficient memory" in str(error)  # cv2.error


def _use_one_thread() -> None:
    """OpenCV ignores the environment, so it is told as soon as it was imported."""
    cv2 = sys.modules.get("cv2")
    if cv2 is not None and cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)


def _has_grown(memory_bytes: int) -> bool:
    if not memory_bytes:
        return False
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return False
    return resident > _RETIRE_AT * memory_bytes


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
