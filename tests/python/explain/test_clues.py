# SPDX-License-Identifier: BSD-2-Clause
"""What a log without memory proves, and the near miss of each derivation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from debug.evidence import (
    Cpu,
    Ending,
    EventKind,
    Evidence,
    ExceptionEvent,
    Registers,
    Segment,
    TableRegister,
)
from debug.explain.clues.words import sentences
from debug.report.diagnosis import diagnose
from tests.python.evidence_builder import Machine, registers, segment

USER = {
    "cs": segment(0x1B, flags=0xC0FA00),
    "ss": segment(0x23, flags=0xC0F200),
    "cpl": 3,
}
USER_DATA = {name: segment(0x23, flags=0xC0F300) for name in ("ds", "es")}
NULL = Segment(0, 0, 0xFFFFFFFF, 0xC01300)
TASK = segment(0x2B, 0x107000, 0x68, 0xE900)
PG = 0x80000011
EXCEPTION, IRQ, INT = (
    EventKind.EXCEPTION,
    EventKind.HARDWARE_INTERRUPT,
    EventKind.SOFTWARE_INTERRUPT,
)


def machine32(**values: Any) -> Registers:
    """A 32-bit kernel at 1 MiB with paging on."""
    base: dict[str, Any] = {
        "cr0": PG,
        "cr3": 0x10B000,
        "rip": 0x1003D0,
        "rsp": 0x106FDC,
        "rflags": 0x202,
        "tr": TASK,
        "gdtr": TableRegister(0x107080, 0x2F),
        "idtr": TableRegister(0x1070E0, 0x7FF),
        "cs": segment(8, flags=0xC09A00),
        "ss": segment(0x10, flags=0xC09300),
    }
    return registers("prot32", **{**base, **values})


@dataclass
class Log:
    """A log that ends in a shutdown of CPU 0."""

    events: tuple[ExceptionEvent, ...]
    registers: Registers
    ending: Ending = Ending.TRIPLE_FAULT
    messages: tuple[str, ...] = ()

    def evidence(self) -> Evidence:
        dead = self.ending is Ending.TRIPLE_FAULT
        return Evidence(
            emulator="qemu",
            ending=self.ending,
            cpus=(Cpu(0, self.registers, shutdown=dead or None),),
            events=self.events,
            messages=self.messages,
        )

    def causes(self) -> dict[str, str]:
        found = diagnose(self.evidence()).causes
        return {cause.row.id: cause.certainty.value for cause in found}


def event(
    regs: Registers,
    vector: int,
    error: Optional[int] = None,
    cr2: Optional[int] = None,
    kind: EventKind = EXCEPTION,
    **more: Any,
) -> ExceptionEvent:
    return ExceptionEvent(kind, vector, regs, error, cr2, 0, **more)


def died(
    regs: Registers,
    vector: int,
    error: Optional[int] = None,
    cr2: Optional[int] = None,
    before: tuple[ExceptionEvent, ...] = (),
) -> Log:
    """`vector` is raised, leads to #DF and that to the shutdown."""
    chain = (
        event(regs, vector, error, cr2, while_delivering=-1),
        event(regs, 8, 0, cr2, while_delivering=vector),
        event(regs, 13, None, cr2, EventKind.TRIPLE_FAULT, while_delivering=8),
    )
    return Log((*before, *chain), regs)


def cut(regs: Registers, vector: int, error: int, cr2: int) -> Log:
    """The log ends with the exception: whether it was handled is not known."""
    return Log((event(regs, vector, error, cr2, while_delivering=-1),), regs, Ending.UNKNOWN)


def said(*words: str, vector: int = 13, shut: int = 13, regs: Optional[Registers] = None) -> Log:
    """Bochs said `words` before the exception that it could not resolve."""
    regs = regs if regs is not None else machine32()
    chain = (
        event(regs, vector, while_delivering=-1, tick=7, reason="; ".join(words)),
        event(regs, shut, kind=EventKind.TRIPLE_FAULT, while_delivering=8, tick=7),
    )
    return Log(chain, regs)


def shut(regs: Registers, vector: int, reason: str = "", messages: tuple[str, ...] = ()) -> Log:
    """Only the exception that could not be resolved was logged."""
    mark = event(
        regs, vector, kind=EventKind.TRIPLE_FAULT, while_delivering=8, tick=7, reason=reason
    )
    return Log((mark,), regs, messages=messages)


def to_ring0(cr2: int, error: int = 2, vector: int = 0x80) -> Log:
    """INT n in a program, and a page fault while it is delivered."""
    regs = machine32(rip=0x804804E, rsp=0x83FFF5C, cr2=cr2, **USER)
    chain = (
        event(regs, vector, kind=INT),
        event(regs, 14, error, cr2),
        event(regs, 8, 0, cr2, while_delivering=14),
        event(regs, 13, None, cr2, EventKind.TRIPLE_FAULT, while_delivering=8),
    )
    return Log(chain, regs)


@dataclass(frozen=True)
class Case:
    """`log` must give `row` with `certainty` first; `near` must not give it so strongly."""

    row: str
    certainty: str
    log: Callable[[], Log]
    near: Callable[[], Log]


def user(**values: Any) -> Registers:
    return machine32(**{**USER, **values})


def slide(rip: int, **values: Any) -> Log:
    regs = user(rip=rip, rsp=0x8400000, rax=0x8048056, **values)
    return died(regs, 14, 4, rip)


def nested(step: int) -> Log:
    """Timer interrupts at stack pointers `step` apart, then a push below the page."""
    before = tuple(
        event(machine32(rip=0x1001B1C, rsp=0xC0001000 - 0x40 + place * step), 0x20, kind=IRQ)
        for place in range(5)
    )
    ended = machine32(rip=0x1003340, rsp=0xC0000000 if step < 0 else 0xC0000800)
    return died(ended, 14, 2, (ended.get("rsp") or 0) - 4, before)


def after_cr3(**values: Any) -> Log:
    old = machine32(rip=0x1015A6, cr3=0x10B000)
    regs = machine32(rip=0x1099F7, cr3=0xFFD8000, **values)
    return died(regs, 14, 0, 0x1099F7, (event(old, 0x20, kind=IRQ),))


def vm86(before_vm: bool) -> Log:
    regs = user(rflags=0x23502, cs=segment(0x202, 0x2020, 0xFFFF, 0xF300), rip=0x1D)
    earlier = replace(user(rip=0x8048AF6), rflags=0x20202 if before_vm else 0x202)
    return died(regs, 13, 10, None, (event(earlier, 0x80, kind=INT),))


def low_target(last: Registers) -> Log:
    regs = user(rip=0x83, rsp=0x83FFEE8)
    before = (event(user(rip=0x8048076), 0x80, kind=INT), event(last, 0x20, kind=IRQ))
    return died(regs, 6, None, None, before)


def compat(base: int) -> Registers:
    values: dict[str, Any] = {"cr4": 0x20, "efer": 0x500, "rip": 3, "rsp": 0x7FFDC000}
    return machine32(**values, gdtr=TableRegister(base, 0x27))


def jumped(register: int, error: int = 0, **values: Any) -> Log:
    """64-bit code on a low stack fetches from the higher half, or pushes with this RSP."""
    high = 0xFFFF_FFFF_8010_B000
    known: dict[str, Any] = {"rip": high, "rax": register, "rsp": 0x10A000, "cr4": 0x20, **values}
    regs = registers(cs=segment(8, flags=0xAF9A00), gdtr=TableRegister(0x10A000, 0x17), **known)
    return died(regs, 14, error, regs.rip if error == 0 else (known["rsp"] - 8) % (1 << 64))


def jumps_far(base: int, limit: int = 0x1F, vector: int = 13, **values: Any) -> Log:
    """The far jump after PE was set is refused: selector 8 of the GDT at `base`."""
    known = {"cr0": 0x11, "rax": 0x11, "rip": 0x7C43, "rsp": 0x7C00, **values}
    regs = registers("prot16", gdtr=TableRegister(base, limit), **known)
    return died(regs, vector, 8)


CASES = (
    # the emulator's words
    Case(
        "tss-stack-bad",
        "certain",
        lambda: shut(user(), 10, "interrupt(): SS.dpl != CS.dpl"),
        lambda: shut(user(), 14, "interrupt(): SS.dpl != CS.dpl"),
    ),
    Case(
        "tss-stack-bad",
        "certain",
        lambda: shut(user(), 10, "interrupt(): SS selector null; interrupt(): SS selector null"),
        lambda: shut(user(), 10, "interrupt(): segment selector null"),
    ),
    Case(
        "code-segment-privilege",
        "certain",
        lambda: said("check_cs(0x0008): conforming code seg descriptor dpl > cpl, dpl=3, cpl=0"),
        lambda: said("check_cs(0x0008): code segment not present !"),
    ),
    Case(
        "far-jump-not-code",
        "certain",
        lambda: said("check_cs(0x0008): not a valid code segment !", regs=registers("prot16")),
        lambda: said("check_cs(0x0008): not a valid code segment !"),
    ),
    Case(
        "iret-frame-bad",
        "certain",
        lambda: said("iret: return CS selector null"),
        lambda: said("interrupt(): return CS selector null"),
    ),
    Case(
        "data-segment-privilege",
        "certain",
        lambda: said("load_seg_reg(GS, 0x0093): RPL & CPL must be <= DPL"),
        lambda: said("load_seg_reg(GS, 0x0093): segment not present"),
    ),
    Case(
        "control-reserved-bits",
        "certain",
        lambda: said("SetCR3(): Attempt to write to reserved bits of CR3 !"),
        lambda: said("SetCR3(): Attempt to write CR3"),
    ),
    Case(
        "tss-descriptor-bad",
        "likely",
        lambda: said("LTR: doesn't point to an available TSS descriptor!"),
        lambda: said("LTR: another matter"),
    ),
    Case(
        "selector-beyond-gdt",
        "likely",
        lambda: said("fetch_raw_descriptor: GDT: index (87) 10 > limit (7f)"),
        lambda: said("fetch_raw_descriptor: GDT: index (817f) 102f > limit (7f)"),
    ),
    Case(
        "selector-beyond-gdt",
        "likely",
        lambda: shut(
            machine32(rax=0x28),
            14,
            messages=("CPU0: fetch_raw_descriptor: GDT: index (2f) 5 > limit (17)",),
        ),
        lambda: shut(
            machine32(),
            14,
            messages=("CPU0: fetch_raw_descriptor: GDT: index (2f) 5 > limit (17)",),
        ),
    ),
    Case(
        "idt-limit-too-small",
        "likely",
        lambda: said(
            "interrupt(): vector must be within IDT table limits, IDT.limit = 0x7f",
        ),
        lambda: said("interrupt(): vector must be within IDT table limits, IDT.limit = 0x0"),
    ),
    # the stack and the TSS
    Case(
        "tss-missing",
        "certain",
        lambda: Log((), user(tr=segment(0, 0, 0xFFFF, 0x8B00)), Ending.EMULATOR_DIED),
        lambda: Log((), user(), Ending.EMULATOR_DIED),
    ),
    Case(
        "tss-stack-bad",
        "certain",
        lambda: to_ring0(0xFFFFFFFC),
        lambda: to_ring0(0xFFFFFFFC, error=6),  # the program's own access
    ),
    Case(
        "tss-unmapped",
        "certain",
        lambda: to_ring0(0x107008, error=0),
        lambda: to_ring0(0x108008, error=0),
    ),
    Case(
        "tss-stack-bad",
        "likely",
        lambda: died(machine32(rsp=0xFFFFF000), 14, 2, 0xFFFFEFFC),
        lambda: died(machine32(rsp=0xBFFFF000), 14, 2, 0xBFFFEFFC),
    ),
    Case(
        "user-stack-unmapped",
        "likely",
        lambda: died(user(rip=0x804810B, rsp=0x8500000), 14, 6, 0x84FFFFC),
        lambda: died(user(rip=0x804810B, rsp=0x8500000, rax=5), 14, 6, 0x84FFFFC),
    ),
    Case(
        "stack-overflow",
        "likely",
        lambda: died(
            machine32(rsp=0xC0000000),
            14,
            2,
            0xBFFFFFFC,
            (event(machine32(rsp=0xC0000100), 0x20, kind=IRQ),),
        ),
        lambda: died(machine32(rsp=0xC0000000), 14, 2, 0xBFFFFFFC),
    ),
    Case("interrupts-nest", "likely", lambda: nested(-0x300), lambda: nested(0)),
    Case(
        "stack-in-code",
        "likely",
        lambda: died(machine32(rip=0x201274, rsp=0x201260), 6),
        lambda: died(machine32(rip=0x201274, rsp=0x202260), 6),
    ),
    Case(
        "stack-null",
        "likely",
        lambda: died(
            machine32(rip=0xF000FF53, rsp=0x14, rbp=0xF000FF53, rsi=0xF000FF53, cr0=0x11), 6
        ),
        lambda: died(machine32(rip=0x10FF53, rsp=0x14, rbp=0xF000FF53, cr0=0x11), 6),
    ),
    # tables and selectors
    Case(
        "interrupt-without-gate",
        "certain",
        lambda: Log(
            (
                event(machine32(), 0xF9, kind=IRQ),
                event(machine32(), 13, 0x7CA),
                event(machine32(), 8, 0, while_delivering=13),
            ),
            machine32(),
        ),
        lambda: Log(
            (
                event(machine32(), 0xF9, kind=IRQ),
                event(machine32(), 13, 0x10),
                event(machine32(), 8, 0, while_delivering=13),
            ),
            machine32(),
        ),
    ),
    Case(
        "gdt-base-wrong",
        "likely",
        lambda: died(registers("prot16", gdtr=TableRegister(0, 0)), 13, 0),
        lambda: died(registers("prot16", gdtr=TableRegister(0x600, 0x17)), 13, 0),
    ),
    Case(
        "code-segment-l-missing",
        "likely",
        lambda: died(compat(0xFFFFFFFF80201B10), 14, 2, 0x7FFDBFFC),
        lambda: died(compat(0x201B10), 14, 2, 0x7FFDBFFC),
    ),
    Case(
        "iret-frame-bad",
        "likely",
        lambda: died(machine32(**USER_DATA), 13, 0x8178),
        lambda: died(machine32(), 13, 0x8178),
    ),
    Case(
        "iret-frame-bad",
        "likely",
        lambda: died(machine32(**USER_DATA, ldt=segment(0)), 13, 0x1734),
        lambda: died(machine32(**USER_DATA, ldt=segment(0x38, 0x9000, 0xFF)), 13, 0x1734),
    ),
    Case("iret-frame-bad", "likely", lambda: vm86(False), lambda: vm86(True)),
    Case(
        "iret-frame-bad",
        "likely",
        lambda: low_target(machine32()),
        lambda: low_target(user(rip=0x8048080)),
    ),
    Case(
        "selector-beyond-gdt",
        "likely",
        lambda: died(machine32(), 13, 0x30),
        lambda: died(machine32(), 13, 0x8178),
    ),
    Case(
        "null-segment-used",
        "likely",
        lambda: died(machine32(ds=NULL), 13, 0),
        lambda: died(machine32(fs=NULL), 13, 0),
    ),
    Case(
        "cr3-wrong",
        "likely",
        lambda: shut(machine32(cr3=0x1024, rax=0x1024), 14),
        lambda: shut(machine32(cr3=0x1018), 14),  # PWT and PCD
    ),
    Case(
        "code-lost-with-cr3",
        "likely",
        lambda: after_cr3(rax=0xFFD8000),
        lambda: after_cr3(),
    ),
    Case(
        "identity-map-missing",
        "likely",
        lambda: died(machine32(rip=0x1003D0, rax=PG), 14, 0, 0x1003D0),
        lambda: died(machine32(rip=0x1003D0), 14, 0, 0x1003D0),
    ),
    Case(
        "compatibility-mode-left-on",
        "likely",
        lambda: died(compat(0x10A000), 6),
        lambda: died(machine32(cr4=0x20, efer=0), 6),
    ),
    Case(
        "lme-missing",
        "likely",
        lambda: died(machine32(cr4=0x20, efer=0, rax=PG), 14, 0, PG),
        lambda: died(machine32(cr4=0x20, efer=0), 14, 0, PG),
    ),
    Case(
        "stack-null",
        "certain",
        lambda: jumped(0, 2, rsp=0),
        lambda: jumped(0, 2, rsp=0x1000),
    ),
    Case(
        "gdt-base-wrong",
        "likely",
        lambda: jumps_far(0x78),
        lambda: jumps_far(0x7C78),
    ),
    Case(
        "gdt-base-wrong",
        "likely",
        lambda: jumps_far(0xFF53F000, 0xFF53),  # the vectors of interrupts 0 and 1
        lambda: jumps_far(0xFF53F000, 0x17),
    ),
    Case(
        "code-segment-not-present",
        "likely",
        lambda: jumps_far(0x7C78, vector=11),
        lambda: jumps_far(0x7C78, vector=11, rax=0),
    ),
    # instructions
    Case("divide-error", "likely", lambda: died(machine32(), 0), lambda: cut(machine32(), 0, 0, 0)),
    Case(
        "sse-not-enabled",
        "possible",
        lambda: died(registers(rip=0x101000, cr4=0x20), 6),
        lambda: died(registers(rip=0x101000, cr4=0x220), 6),
    ),
    # pointers and jumps
    Case(
        "higher-half-unmapped",
        "likely",
        lambda: jumped(0xFFFF_FFFF_8010_B000),
        lambda: jumped(0xFFFF_FFFF_8010_B000, rsp=0xFFFF_FFFF_8010_A000),
    ),
    Case("executing-zeros", "likely", lambda: slide(0x804A000), lambda: slide(0x804A010)),
    Case(
        "ivt-as-pointer",
        "likely",
        lambda: died(machine32(rdx=0xF000FF53), 14, 0, 0xF000FF53),
        lambda: died(machine32(rdx=0xF000FF53), 14, 0, 0xD000FF53),
    ),
    Case(
        "mmio-unmapped",
        "likely",
        lambda: died(machine32(rax=0xFD000000, rdx=0x4E390), 14, 2, 0xFD04E390),
        lambda: died(machine32(rax=0xF0000000, rdx=0x4E390), 14, 2, 0xF004E390),
    ),
    Case(
        "frame-as-pointer",
        "likely",
        lambda: died(machine32(rax=0x600000, rdx=0x601000), 14, 2, 0x600000),
        lambda: died(machine32(rax=0x600000, rdx=0x600800), 14, 2, 0x600000),
    ),
    Case(
        "user-page-protection",
        "certain",
        lambda: died(user(), 14, 5, 0x1003D0),
        lambda: died(user(), 14, 4, 0x1003D0),
    ),
    Case(
        "pointer-unmapped",
        "likely",
        lambda: cut(machine32(rbx=0x1C00), 14, 0, 0x1C01),
        lambda: cut(machine32(rbx=0x1C00), 14, 0, 0x2C01),
    ),
)


def identify(case: Case) -> str:
    return case.row


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_named(case: Case) -> None:
    causes = case.log().causes()
    assert next(iter(causes.items()), None) == (case.row, case.certainty), causes


@pytest.mark.parametrize("case", CASES, ids=identify)
def test_near_miss(case: Case) -> None:
    causes = case.near().causes()
    order = ("possible", "likely", "certain")
    weaker = order[: order.index(case.certainty)]
    assert causes.get(case.row, "possible") in weaker or case.row not in causes, causes


def test_full_and_unmapped_stack_look_the_same() -> None:
    causes = died(machine32(rsp=0xC0000000), 14, 2, 0xBFFFFFFC).causes()
    assert causes["stack-unmapped"] == causes["stack-overflow"] == "possible"


def test_memory_silences_the_clues() -> None:
    class Memory:
        def read(self, physical: int, length: int) -> bytes:
            return bytes(length)

    log = died(machine32(rdx=0xF000FF53), 14, 0, 0xF000FF53)
    evidence = replace(log.evidence(), memory=Memory())
    assert "ivt-as-pointer" not in [cause.row.id for cause in diagnose(evidence).causes]


def test_a_log_that_goes_on_has_no_cause() -> None:
    regs = machine32(rdx=0xF000FF53)
    events = (event(regs, 14, 0, 0xF000FF53), *(event(machine32(), 0x20, kind=IRQ),) * 6)
    assert not Log(events, machine32(), Ending.UNKNOWN).causes()


def test_bochs_lets_no_impossible_register_pass() -> None:
    log = died(machine32(cr4=1 << 17), 13, 0)
    there = {c.row.id for c in diagnose(log.evidence()).causes}
    bochs = {c.row.id for c in diagnose(replace(log.evidence(), emulator="bochs")).causes}
    assert "pcide-too-early" in there - bochs


def test_an_observer_may_have_stopped_the_bsp_too_early() -> None:
    def certainty(waits: bool) -> str:
        machine = Machine().boot_trace()
        machine.stop(registers("real", rip=0xFFF0, cs=segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9B00)))
        machine.ap = replace(machine.ap, waiting_for_sipi=True, executed=False)
        machine.expected = 2
        machine.bsp = replace(machine.bsp, halted=not waits, moved=waits)
        return {c.row.id: c.certainty.value for c in diagnose(machine.evidence()).causes}[
            "ap-missing"
        ]

    assert (certainty(False), certainty(True)) == ("certain", "likely")


def test_words_come_one_by_one() -> None:
    assert sentences(["one; two", "three"]) == ["one", "two", "three"]


WORDS = st.sampled_from(
    [
        "interrupt(): SS.dpl != CS.dpl",
        "check_cs(0x0008): not a valid code segment !",
        "fetch_raw_descriptor: GDT: index (ffff) 1fff > limit (0)",
        "iret: return CS selector null",
        "\x1b[31m",
        "",
    ]
)
U32 = st.integers(0, (1 << 32) - 1)


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.lists(WORDS, max_size=4), st.integers(0, 255), U32, U32, U32, U32)
def test_any_log_has_a_verdict(
    words: list[str], vector: int, error: int, cr2: int, rip: int, rsp: int
) -> None:
    regs = machine32(rip=rip, rsp=rsp, rax=cr2, cr2=cr2)
    chain = event(regs, vector, error, cr2, tick=1, reason="; ".join(words))
    for cpu in (regs, user(rip=rip, rsp=rsp), Registers()):
        log = Log((chain, event(cpu, 13, kind=EventKind.TRIPLE_FAULT, tick=1)), cpu)
        diagnose(log.evidence())
