# SPDX-License-Identifier: BSD-2-Clause
"""A CPU's state from Bochs's debugger.

Pure: the debugger's text in, a Cpu out.  `show "cpu0.CS"` prints a node of Bochs's parameter tree:

    show param name: <cpu0.CS>
    CS = {
      selector = 0x8
      ...
    }

The tree holds everything: hidden parts of segments, MSRs, the local APIC, and whether the CPU is
halted, shut down or waiting for its SIPI.
"""

from __future__ import annotations

import re
from typing import Mapping, Optional, Sequence, Union

from debug.evidence import GENERAL, Cpu, LocalApic, Pic, Registers, Segment, TableRegister

Node = Union[int, "Tree"]
Tree = dict[str, Node]

# CPU activity states in Bochs's numbering.
ACTIVE, HALTED, SHUTDOWN, WAIT_FOR_SIPI, MWAIT, MWAIT_IF = range(6)

_SEGMENTS = ("CS", "SS", "DS", "ES", "FS", "GS", "LDTR", "TR")
_CONTROL = ("CR0", "CR2", "CR3", "CR4", "DR6", "DR7", "XCR0")
_MSR = (
    ("apicbase", "apic_base"),
    ("EFER", "efer"),
    ("kernelgsbase", "kernel_gs_base"),
    ("star", "star"),
    ("lstar", "lstar"),
    ("cstar", "cstar"),
    ("fmask", "fmask"),
    ("pat", "pat"),
)
_LVT = ("timer", "thermal", "performance", "lint0", "lint1", "error", "cmci")
NAMES: tuple[str, ...] = (
    *(name.upper() for name in GENERAL),
    *("RIP", "EFLAGS", "activity_state", "in_smm"),
    *_CONTROL,
    *_SEGMENTS,
    *("GDTR", "IDTR", "MSR", "local_apic"),
)
SAMPLE_NAMES: tuple[str, ...] = (
    *("RIP", "EFLAGS", "activity_state"),
    *(name.upper() for name in GENERAL),
)

_SHOWN = re.compile(r"show param name: <cpu([0-9]{1,3})\.([A-Za-z0-9_]{1,32})>")
_PIC = re.compile(r"show param name: <pic\.(master|slave)>")
_PIC_LEAVES = ("interrupt_offset", "imr", "isr", "irr")
_OPEN = re.compile(r"^\s*([A-Za-z0-9_]{1,64}) = \{\s*$")
_LEAF = re.compile(
    r"^\s*([A-Za-z0-9_]{1,64}) = (?:(0x[0-9a-fA-F]{1,16})|(-?[0-9]{1,20})|(true|false))\s*$"
)
_MAX_DEPTH = 8


def commands(cpus: int, names: Sequence[str] = NAMES) -> list[str]:
    """The debugger commands that show `names` of CPUs 0 … cpus-1."""
    return [f'show "cpu{cpu}.{name}"' for cpu in range(cpus) for name in names]


def parse_shown(text: str) -> dict[int, Tree]:
    """What those commands printed, by CPU; what can't be read is left out."""
    result: dict[int, Tree] = {}
    stack: list[Tree] = []
    expected = ""
    for line in text.splitlines():
        if found := _SHOWN.search(line):
            root = result.setdefault(int(found[1]), {})
            stack, expected = [root], found[2]
        elif not stack:
            continue
        elif found := _OPEN.match(line):
            if (len(stack) > 1 or found[1] == expected) and len(stack) < _MAX_DEPTH:
                inner: Tree = {}
                stack[-1][found[1]] = inner
                stack.append(inner)
        elif line.strip() == "}":
            if len(stack) > 1:
                stack.pop()
        elif found := _LEAF.match(line):
            if len(stack) > 1 or found[1] == expected:
                stack[-1][found[1]] = _value(found)
    return result


PIC_COMMANDS = ('show "pic.master"', 'show "pic.slave"')


def parse_pics(text: str) -> tuple[Pic, ...]:
    """What those commands printed, the first PIC first; () if it is not all there."""
    trees: dict[str, Tree] = {}
    tree: Tree = {}
    for line in text.splitlines():
        if found := _PIC.search(line):
            tree = trees.setdefault(found[1], {})
        elif found := _LEAF.match(line):
            tree[found[1]] = _value(found)
    pics = []
    for name in ("master", "slave"):
        known = trees.get(name, {})
        base, imr, isr, irr = (_leaf(known, leaf) for leaf in _PIC_LEAVES)
        if base is None or imr is None or isr is None or irr is None:
            return ()
        pics.append(Pic(base & 0xFF, imr & 0xFF, isr & 0xFF, irr & 0xFF))
    return tuple(pics)


IO_APIC_COMMANDS = ('show "ioapic"',)
_ENTRY = re.compile(r"^\s*(lo|hi) = 0x([0-9a-fA-F]{1,8})\s*$")


def parse_io_apics(text: str) -> Optional[tuple[tuple[int, ...], ...]]:
    """What that command printed: the redirection entries of the one I/O APIC; None if nothing."""
    halves = [
        (found[1], int(found[2], 16)) for found in map(_ENTRY.match, text.splitlines()) if found
    ]
    low = [value for name, value in halves if name == "lo"]
    high = [value for name, value in halves if name == "hi"]
    if not low or len(low) != len(high):
        return None
    return (tuple(upper << 32 | lower for lower, upper in zip(low, high)),)


def _value(found: re.Match[str]) -> int:
    if found[2]:
        return int(found[2], 16)
    if found[3]:
        return int(found[3])
    return int(found[4] == "true")


def _leaf(tree: Mapping[str, Node], name: str) -> Optional[int]:
    value = tree.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def _tree(tree: Mapping[str, Node], name: str) -> Tree:
    value = tree.get(name)
    return value if isinstance(value, dict) else {}


def activity(tree: Mapping[str, Node]) -> Optional[int]:
    """ACTIVE … MWAIT_IF, None if it was not shown."""
    return _leaf(tree, "activity_state")


def stuck_for_good(tree: Mapping[str, Node]) -> bool:
    """No interrupt can make this CPU go on: only an NMI, an INIT or a SIPI."""
    state, flags = activity(tree), _leaf(tree, "EFLAGS")
    if state in (SHUTDOWN, WAIT_FOR_SIPI):
        return True
    return state in (HALTED, MWAIT) and flags is not None and not flags & 1 << 9


def build_cpu(index: int, tree: Mapping[str, Node], before: Optional[Mapping[str, Node]]) -> Cpu:
    """One CPU.  `before` is what it showed a moment of running earlier, if it ran."""
    registers = build_registers(tree)
    state = activity(tree)
    apic = build_apic(_tree(tree, "local_apic"), registers)
    moved = None
    if before is not None:
        moved = any(before.get(name) != tree.get(name) for name in SAMPLE_NAMES if name in before)
    return Cpu(
        index=index,
        registers=registers,
        apic_id=apic.apic_id if apic else None,
        halted=state in (HALTED, MWAIT, MWAIT_IF) if state is not None else None,
        waiting_for_sipi=state == WAIT_FOR_SIPI if state is not None else None,
        shutdown=state == SHUTDOWN if state is not None else None,
        apic=apic,
        executed=_executed(registers, state, moved),
        moved=moved,
    )


def _executed(registers: Registers, state: Optional[int], moved: Optional[bool]) -> Optional[bool]:
    """Whether it fetched an instruction since its last INIT and SIPI."""
    if state is None or registers.rip is None:
        return None
    if state == WAIT_FOR_SIPI:
        return False
    if registers.rip == 0 and state in (ACTIVE, SHUTDOWN):
        # It stands where a SIPI put it: not begun, or its first instruction faults.
        return False if state == ACTIVE and moved is False else None
    return True


def build_registers(tree: Mapping[str, Node]) -> Registers:
    """The registers in a CPU's tree; what is not in it stays unknown."""
    general = {n: v for n in GENERAL if (v := _leaf(tree, n.upper())) is not None}
    control = {n.lower(): v for n in _CONTROL if (v := _leaf(tree, n)) is not None}
    msr = _tree(tree, "MSR")
    control |= {ours: v for theirs, ours in _MSR if (v := _leaf(msr, theirs)) is not None}
    segments: dict[str, Segment] = {}
    for name in _SEGMENTS:
        segment = build_segment(_tree(tree, name))
        if segment is not None:
            segments["ldt" if name == "LDTR" else name.lower()] = segment
    for name in ("fs", "gs"):
        if name in segments:
            control[name + "_base"] = segments[name].base
    apic = _tree(tree, "local_apic")
    if (priority := _leaf(apic, "task_priority")) is not None:
        control["cr8"] = priority >> 4 & 0xF
    code, smm = segments.get("cs"), _leaf(tree, "in_smm")
    cpl = None
    if code is not None and "cr0" in control:
        cpl = code.selector & 3 if control["cr0"] & 1 else 0
    return Registers(
        rip=_leaf(tree, "RIP"),
        rflags=_leaf(tree, "EFLAGS"),
        general=general,
        control=control,
        segments=segments,
        gdtr=_table(_tree(tree, "GDTR")),
        idtr=_table(_tree(tree, "IDTR")),
        cpl=cpl,
        smm=bool(smm) if smm is not None else None,
    )


def build_segment(tree: Mapping[str, Node]) -> Optional[Segment]:
    """A segment register from its node; None if it is incomplete."""
    parts = [_leaf(tree, name) for name in ("selector", "base", "limit_scaled")]
    if None in parts:
        return None
    selector, base, limit = (part or 0 for part in parts)
    bits = {"p": 15, "segment": 12, "avl": 20, "l": 21, "d_b": 22, "granularity": 23}
    flags = ((_leaf(tree, "type") or 0) & 0xF) << 8 | ((_leaf(tree, "dpl") or 0) & 3) << 13
    for name, bit in bits.items():
        flags |= int(bool(_leaf(tree, name))) << bit
    return Segment(selector, base, limit, flags)


def _table(tree: Mapping[str, Node]) -> Optional[TableRegister]:
    base, limit = _leaf(tree, "base"), _leaf(tree, "limit")
    return TableRegister(base, limit) if base is not None and limit is not None else None


def build_apic(tree: Mapping[str, Node], registers: Registers) -> Optional[LocalApic]:
    """The local APIC [SDM 3A "Local APIC Registers"]; None if it was not shown."""
    apic_id, mode = _leaf(tree, "apic_id"), _leaf(tree, "mode")
    if apic_id is None:
        return None
    spurious, software = _leaf(tree, "spurious_vector"), _leaf(tree, "software_enabled")
    svr = None
    if spurious is not None and software is not None:
        svr = spurious | software << 8 | (_leaf(tree, "focus_disable") or 0) << 9
    high, low = _leaf(tree, "icr_hi"), _leaf(tree, "icr_lo")
    base = registers.control.get("apic_base")
    lvt = {n: v for i, n in enumerate(_LVT) if (v := _leaf(tree, f"lvt{i}")) is not None}
    return LocalApic(
        apic_id=apic_id,
        base=base & ~0xFFF if base is not None else None,
        enabled=bool(base & 1 << 11) if base is not None else None,
        x2apic=mode == 3 if mode is not None else None,
        svr=svr,
        esr=_leaf(tree, "error_status"),
        icr=high << 32 | low if high is not None and low is not None else None,
        isr=_vectors(tree, "isr"),
        irr=_vectors(tree, "irr"),
        lvt=lvt,
        timer_initial=_leaf(tree, "timer_initial"),
        timer_current=_leaf(tree, "timer_current"),
    )


def _vectors(tree: Mapping[str, Node], name: str) -> tuple[int, ...]:
    words = [_leaf(tree, f"{name}{word}") or 0 for word in range(8)]
    return tuple(
        w * 32 + bit for w, value in enumerate(words) for bit in range(32) if value >> bit & 1
    )
