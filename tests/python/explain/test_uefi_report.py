# SPDX-License-Identifier: BSD-2-Clause
"""What UEFI prints of an exception that it took: believed where the stack shows the same."""

from __future__ import annotations

import struct
from dataclasses import replace

from debug.explain import uefi_report
from debug.explain.model import Status
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import CODE64, DATA, KERNEL, KERNEL_PHYSICAL, Machine, registers

IMAGE, STACK = KERNEL + 0x3000, KERNEL + 0x9000
RIP, LOOP = IMAGE + 0x1015, KERNEL + 0x2000

# As OVMF of Debian 12 prints it; between the lines come others, which are left out here.
PRINTED = """\
!!!! X64 Exception Type - {vector:02X}({name})  CPU Apic ID - 00000000 !!!!
ExceptionData - {error:016X}
RIP  - {rip:016X}, CS  - 0000000000000008, RFLAGS - 0000000000000202
RAX  - 00007FFFFFFFF000, RCX - 000000000F0351E0, RDX - 0000000000000000
RSI  - 000000000E0926A0, RDI - 000000000E094C18
R8   - 00000000000000AF, R9  - 0000000000001000, R10 - 00000000000000DB
CR0  - 0000000080010033, CR2 - 00007FFFFFFFF000, CR3 - 0000000000010000
CR4  - 0000000000000668, CR8 - 0000000000000000
!!!! Find image based on IP(0x{rip:X}) (No PDB)  (ImageBase={image:016X}, EntryPoint={image:016X}) !!!!
"""


def stopped(printed_rip: int = RIP, code: bytes = b"\xc7\x00\x01\x00\x00\x00") -> Diagnosis:
    """A page fault, or the invalid opcode that `code` is, of code whose frame is on the stack."""
    machine = Machine()
    machine.ram.write(RIP - KERNEL + KERNEL_PHYSICAL, code)
    machine.ram.write(LOOP - KERNEL + KERNEL_PHYSICAL, b"\xf3\x90\xeb\xfc")  # pause; jmp
    frame = struct.pack("<5Q", RIP, CODE64, 0x202, STACK, DATA)
    machine.ram.write(STACK - len(frame) - KERNEL + KERNEL_PHYSICAL, frame)
    there = registers(rip=LOOP, rflags=0x2, rsp=STACK - 0x200)
    machine.bsp = replace(machine.bsp, registers=there, halted=False)
    vector, name = (6, "#UD - Invalid Opcode") if code == b"\x0f\x0b" else (14, "#PF - Page-Fault")
    machine.console = PRINTED.format(
        vector=vector, name=name, error=2, rip=printed_rip, image=IMAGE
    )
    return diagnose(machine.evidence())


def test_the_exception_is_explained_like_any_other() -> None:
    found = stopped()
    assert found.explanation.status is Status.PANIC
    assert found.explanation.headline.startswith("UEFI gave up with #PF")
    (step,) = found.explanation.chain
    assert (step.vector, step.error_code, step.rip) == (14, 2, RIP)
    assert "write to 0x7ffffffff000" in step.headline
    assert any("0x1015 bytes into the image" in note for note in found.explanation.notes)


def test_its_cause_is_named() -> None:
    causes = [(c.row.id, c.certainty.value) for c in stopped(code=b"\x0f\x0b").causes]
    assert causes[0] == ("unreachable-reached", "certain")


def test_text_that_the_stack_does_not_bear_out_is_only_quoted() -> None:
    """Anything can print such lines."""
    found = stopped(printed_rip=RIP + 0x100)
    assert found.explanation.status is Status.PANIC
    assert not found.explanation.chain
    assert [cause.row.id for cause in found.causes] == ["kernel-panic"]


def test_damaged_text() -> None:
    assert uefi_report.printed("") is None
    assert uefi_report.printed("!!!! X64 Exception Type - ZZ(#UD)  CPU Apic ID - 0 !!!!") is None
    cut = uefi_report.printed(PRINTED.format(vector=6, name="#UD", error=0, rip=1, image=2)[:80])
    assert cut is not None and (cut.fields, cut.image) == ({}, None)
