# SPDX-License-Identifier: BSD-2-Clause
"""A GDB that answers questions about the machine behind a stub, for debug/sources/gdb_remote.py.

The parent runs  python from debug.gdb.server import serve; serve(IN, OUT)  in it.  One JSON object
a line each way: a question has "ask", an answer the same keys that its function returns, or "error".
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Mapping

from debug.gdb.debugger import DebuggerError
from debug.gdb.seam import Gdb

MAX_READ = 1 << 20  # bytes of memory in one answer


def serve(questions: int, answers: int) -> None:
    """Answer until the parent closes its end."""
    gdb = Gdb()
    with os.fdopen(questions, "r") as lines, os.fdopen(answers, "w") as out:
        for line in lines:
            try:
                question = json.loads(line)
                answer = _ANSWERS[question["ask"]](gdb, question)
            except (DebuggerError, KeyError, ValueError, TypeError) as error:
                answer = {"error": str(error)}
            out.write(json.dumps(answer) + "\n")
            out.flush()


def _connect(gdb: Gdb, question: Mapping[str, Any]) -> dict[str, Any]:
    gdb.connect(None, 0, str(question["target"]))
    return {"cpus": list(gdb.cpus())}


def _monitor(gdb: Gdb, question: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": gdb.monitor(str(question["line"]))}


def _registers(gdb: Gdb, question: Mapping[str, Any]) -> dict[str, Any]:
    gdb.select(int(question["cpu"]))
    return {"values": gdb.registers()}


def _read(gdb: Gdb, question: Mapping[str, Any]) -> dict[str, Any]:
    length = min(int(question["length"]), MAX_READ)
    data = gdb.read_physical(int(question["at"]), length)
    return {"data": data.hex() if data is not None else None}


def _leave(gdb: Gdb, question: Mapping[str, Any]) -> dict[str, Any]:
    gdb.leave(bool(question["resume"]))
    return {}


_ANSWERS: Mapping[str, Callable[[Gdb, Mapping[str, Any]], dict[str, Any]]] = {
    "connect": _connect,
    "monitor": _monitor,
    "registers": _registers,
    "read": _read,
    "leave": _leave,
}
