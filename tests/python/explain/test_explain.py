# SPDX-License-Identifier: BSD-2-Clause
"""What the explanation derives: the culprit, the chain, the differences, the laxness."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Ending, EventKind, Evidence, ExceptionEvent, StageEvent, TableRegister
from debug.explain import CpuState, Status, explain
from debug.explain.findings import CpuDifference, Laxness, MapDifference, PageFault, Role
from debug.x86.page_entries import Reason
from debug.x86.refusals import Check
from tests.python.evidence_builder import (
    KERNEL,
    NULL_IDT,
    PAGE,
    RESET_IDT,
    STACKS,
    TRAMPOLINE,
    Machine,
    registers,
    segment,
)


def pushes_unmapped() -> Machine:
    machine = Machine().boot_trace().sipi().trace(1, 0x10, 0x60, 0x61, 0x62)
    machine.ram.write(TRAMPOLINE + 0x212, b"\x50")
    regs = registers(rip=TRAMPOLINE + 0x212, rsp=KERNEL + 0x9000, cr3=0x40000, idtr=NULL_IDT)
    return machine.kill(regs, 14, 2, KERNEL + 0x8FF8)


def test_healthy() -> None:
    explanation = explain(Machine().evidence())
    assert explanation.status is Status.HEALTHY
    assert explanation.headline == "healthy: 2 of 2 CPUs online"
    assert [view.state for view in explanation.cpus] == [CpuState.IDLE, CpuState.IDLE]
    assert explanation.culprit is None and explanation.chain == ()


def test_chain_to_shutdown() -> None:
    explanation = explain(pushes_unmapped().evidence())
    assert explanation.status is Status.TRIPLE_FAULT and explanation.culprit == 1
    first, second, third = explanation.chain
    assert first.headline == f"#PF write to {KERNEL + 0x8FF8:#x}: not present"
    assert first.instruction == "push rax" and first.where == "lcpu_start64+0x12"
    assert first.details == ("CR3 0x40000 → PML4[511] is 0x0: not present",)
    assert "#PF could not be delivered" in second.headline and "limit 0x0" in second.headline
    assert "#DF could not be delivered" in third.headline
    assert third.headline.endswith("shutdown")
    assert [step.observed for step in explanation.chain] == [True, False, False]


def test_page_fault_finding() -> None:
    explanation = explain(pushes_unmapped().evidence())
    fault = explanation.first(PageFault)
    assert fault is not None
    assert (fault.role, fault.reason, fault.level) == (Role.STACK, Reason.NOT_PRESENT, "PML4[511]")
    differs = explanation.first(MapDifference)
    assert differs is not None and (differs.bsp_cr3, differs.cr3) == (0x10000, 0x40000)


def test_culprit_is_found_by_registers() -> None:
    machine = pushes_unmapped()
    machine.ap = replace(machine.ap, shutdown=None)
    machine.events = [replace(event, cpu=None) for event in machine.events]
    assert explain(machine.evidence()).culprit == 1


def test_culprit_is_not_assumed() -> None:
    machine = pushes_unmapped()
    elsewhere = registers(rip=KERNEL, rsp=0x5000)
    machine.ap = replace(machine.ap, shutdown=None, registers=elsewhere)
    machine.events = [replace(event, cpu=None) for event in machine.events]
    explanation = explain(machine.evidence())
    assert explanation.culprit is None and explanation.status is Status.TRIPLE_FAULT
    assert any("which CPU" in note for note in explanation.notes)


def test_exception_without_a_record_is_derived() -> None:
    machine = pushes_unmapped()
    machine.events = []
    explanation = explain(machine.evidence())
    assert explanation.chain[0].vector == 14 and not explanation.chain[0].observed
    assert len(explanation.chain) == 3


def test_earlier_exceptions_do_not_belong_to_the_chain() -> None:
    machine = pushes_unmapped()
    earlier = registers(rip=KERNEL + 0x50, rsp=STACKS + 0x4000)
    machine.events.insert(0, ExceptionEvent(EventKind.EXCEPTION, 14, earlier, 0, 0x1234, 1))
    explanation = explain(machine.evidence())
    assert len(explanation.chain) == 3
    assert explanation.chain[0].rip == TRAMPOLINE + 0x212


def test_the_emulators_word_is_compared_with_the_rule() -> None:
    machine = pushes_unmapped()
    machine.events[0] = replace(machine.events[0], vector=13, error_code=0, cr2=None)
    explanation = explain(machine.evidence())
    assert any("the emulator raised #GP; by the rules it is #PF" in n for n in explanation.notes)


def test_differences_to_the_bsp() -> None:
    machine = pushes_unmapped()
    machine.stop(registers(rip=TRAMPOLINE, cr3=0x40000, efer=0x500))
    machine.ending, machine.events = Ending.STOPPED, []
    found = {d.register for d in explain(machine.evidence()).all(CpuDifference)}
    assert found == {"cr3", "efer.nxe"}


def test_laxness_of_the_emulator() -> None:
    machine = Machine()
    machine.ap = replace(machine.ap, registers=registers(rip=KERNEL + 2, rflags=0x202, cr4=0x600))
    explanation = explain(machine.evidence())
    assert [lax.check for lax in explanation.all(Laxness)] == [Check.PAE_MISSING]
    assert any("QEMU let this pass" in note for note in explanation.notes)


def test_missing_cpu_is_named() -> None:
    machine = Machine().boot_trace().sipi().trace(0, (0xC6, 1))
    reset = segment(0xF000, 0xFFFF0000, 0xFFFF, 0x9B00)
    machine.stop(registers("real", rip=0xFFF0, cs=reset, idtr=RESET_IDT), halted=True)
    explanation = explain(machine.evidence())
    assert explanation.status is Status.MISSING_CPU and explanation.culprit == 1
    assert explanation.cpus[1].state is CpuState.WAITING_FOR_SIPI
    assert explanation.headline == "CPU 1 (APIC ID 1) did not arrive: waiting for a SIPI"


def test_expected_cpus() -> None:
    machine = Machine()
    machine.expected = 3
    assert explain(machine.evidence()).status is Status.MISSING_CPU
    machine.expected = 2
    assert explain(machine.evidence()).status is Status.HEALTHY


def gone(*stages: tuple[int, Optional[int]], expected: Optional[int] = None) -> Evidence:
    """A machine that ended itself and left no registers, only the BSP's stages."""
    events = tuple(StageEvent(0, code, argument) for code, argument in stages)
    return Evidence("qemu", ending=Ending.EXITED, stages=events, expected_cpus=expected)


def test_a_machine_that_ends_among_its_sipis_left_its_aps_behind() -> None:
    started = [(0xC0, 0x8000), (0xC4, 1), (0xC4, 2)]
    explanation = explain(gone(*started, (0xC5, 2)))
    assert explanation.status is Status.MISSING_CPU
    assert "not seen by then: APIC ID 1" in " ".join(explanation.notes)
    counted = explain(gone(*started, (0xC5, 1), (0xC5, 2), (0xC7, 3), expected=3))
    assert counted.status is Status.HEALTHY


def test_a_machine_that_is_gone_is_not_healthy_by_its_word_alone() -> None:
    assert explain(gone()).status is Status.HEALTHY  # it ended itself; nobody asked for CPUs
    explanation = explain(gone(expected=4))
    assert explanation.status is Status.UNKNOWN
    assert any("whether 4 CPUs came up is not known" in note for note in explanation.notes)
    assert explain(gone((0xC7, 3), expected=4)).status is Status.UNKNOWN


def test_what_ran_and_could_not_be_looked_at_is_unknown() -> None:
    handled = ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 8, registers("long"))
    evidence = Evidence("bochs", ending=Ending.STOPPED, events=(handled,))
    assert explain(evidence).status is Status.UNKNOWN
    assert explain(replace(evidence, ending=Ending.UNKNOWN)).status is Status.HEALTHY


def test_good_gates_are_a_disagreement() -> None:
    machine = pushes_unmapped()
    regs = registers(
        rip=TRAMPOLINE + 0x212, rsp=STACKS + 3 * PAGE, idtr=TableRegister(0x7000, 0xFFF)
    )
    machine.events.clear()
    machine.kill(regs, 6)
    explanation = explain(machine.evidence())
    assert any("could be entered" in note for note in explanation.notes)


def test_a_panic_is_not_blamed_on_an_exception_that_was_handled() -> None:
    """A self-test may raise one on purpose: the kernel's own has a stage before the panic's."""
    machine = Machine().boot_trace().trace(0, 0xE1)
    machine.console = "panic: lost wake-up\n"
    regs = registers(rip=KERNEL + 1, rsp=KERNEL + 0x9000)
    machine.events.append(ExceptionEvent(EventKind.EXCEPTION, 14, regs, 0, 0x400000000000, 0))
    found = explain(machine.evidence())
    assert found.status is Status.PANIC
    assert found.headline == "the kernel gave up" and found.chain == ()
    machine.stages.insert(-1, StageEvent(0, 0xE0, 14, source="e9"))
    assert explain(machine.evidence()).headline.startswith("the kernel gave up with #PF")
