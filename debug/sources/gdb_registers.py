# SPDX-License-Identifier: BSD-2-Clause
"""GDB's `info registers` as people paste it, given the form of QEMU's.

Pure.  GDB shows a register a line, its name, its value in hex and what it makes of that.  It knows
no hidden parts of segments and no table registers: selectors alone say nothing, and are left out.
"""

from __future__ import annotations

import re

HEAD = re.compile(r"^\s*(?:\(gdb\)\s*)?[er]ip\s+0x[0-9a-f]+\s", re.M)
"""A line that only such a dump has."""

LIMIT = (
    "GDB shows neither GDTR and IDTR nor what segment registers hold: info registers of QEMU's monitor"
    " does (in GDB: monitor info registers)"
)

_BOCHS = re.compile(r"<bochs:\d+>|^Next at t=", re.M)  # its debugger once had the same form
_LINE = re.compile(r"^\s*(?:\(gdb\)\s*)?([a-z][a-z0-9_]{1,9})\s+0x([0-9a-f]{1,16})(?:\s|$)", re.M)
_GENERAL = "ax bx cx dx si di bp sp ip".split()
_NAMES = {wide + name: wide.upper() + name.upper() for wide in "re" for name in _GENERAL}
_NAMES |= {f"r{n}": f"R{n}" for n in range(8, 16)}
_NAMES |= {name: name.upper() for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
_FLAGS = {"R": "RFL", "E": "EFL"}  # by the width of the instruction pointer
_ENOUGH = 6  # registers, the instruction pointer among them: a dump, and no other list


def as_qemu(text: str) -> str:
    """The last dump of GDB's in a text, as QEMU prints one; "" if there is none."""
    if _BOCHS.search(text):
        return ""
    dumps: list[dict[str, str]] = [{}]
    flags = ""
    for found in _LINE.finditer(text):
        name, value = found[1], found[2]
        if name == "eflags":
            flags = value
        ours = _NAMES.get(name)
        if ours is None:
            continue
        if ours in dumps[-1]:
            dumps.append({})
        dumps[-1][ours] = value
    whole = [d for d in dumps if len(d) >= _ENOUGH and ("RIP" in d or "EIP" in d)]
    if not whole:
        return ""
    dump = whole[-1]
    wide = "R" if "RIP" in dump else "E"
    if flags:
        dump[_FLAGS[wide]] = flags
    width = 16 if wide == "R" else 8
    fields = {name: f"{name}={value[-width:].zfill(width)}" for name, value in dump.items()}
    order = [f"{wide}{name}" for name in "AX BX CX DX SI DI BP SP IP FL".split()]
    known = [fields.pop(name) for name in order if name in fields]
    return "\n" + " ".join(known) + "\n" + "\n".join(fields.values()) + "\n"
