# SPDX-License-Identifier: BSD-2-Clause
"""A log of firmware alone is no healthy kernel's, and no sick one's either."""

from __future__ import annotations

from debug.explain.model import Status
from debug.report.diagnosis import Diagnosis, diagnose
from debug.sources.qemu_files import log_evidence
from debug.sources.qemu_log import read_log

RESET = """CPU Reset (CPU 0)
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
CS =f000 ffff0000 0000ffff 00009b00
GDT=     00000000 0000ffff
IDT=     00000000 0000ffff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
EFER=0000000000000000
"""
BIOS = RESET + "Servicing hardware INT=0x08\n" * 40


def taken(rip: int, cs: int, gdt: str) -> str:
    """A timer interrupt in 64-bit code."""
    return f"""Servicing hardware INT=0x20
     1: v=20 e=0000 i=0 cpl=0 IP={cs:04x}:{rip:016x} pc={rip:016x} SP=0030:000000000fefa528 env
RAX=0000000000000000 RBX=0000000000000004 RCX=000000000f050898 RDX=0000000000000000
RSI=000000000ff14760 RDI=000000000ff14770 RBP=000000000f0508e0 RSP=000000000fefa528
R8 =000000000ff14760 R9 =000000000fefa451 R10=000000000e606018 R11=0000000000000000
R12=0000000000000100 R13=000000000ff1c240 R14=00000000ffffffff R15=000000000ff1c340
RIP={rip:016x} RFL=00000206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
CS ={cs:04x} 0000000000000000 ffffffff 00af9a00 DPL=0 CS64 [-R-]
SS =0030 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
GDT=     {gdt}
IDT=     000000000f059018 00000fff
CR0=80010033 CR2=0000000000000000 CR3=000000000f801000 CR4=00000668
EFER=0000000000000d00
"""


UEFI = taken(0xF023369, 0x38, "000000000f5dc000 00000047")
NEWER_UEFI = taken(0xF023369, 0x38, "000000000f5dc000 00000057")


def read(text: str) -> Diagnosis:
    return diagnose(log_evidence(read_log([text.encode()])))


def test_of_firmware_alone_nothing_is_known() -> None:
    for text, name in ((BIOS, "the BIOS"), (UEFI * 3, "UEFI"), (NEWER_UEFI * 3, "UEFI")):
        diagnosis = read(text)
        assert diagnosis.explanation.status is Status.UNKNOWN
        assert "nothing of a kernel" in diagnosis.explanation.headline
        assert name in diagnosis.explanation.headline
        (cause,) = diagnosis.causes
        assert (cause.row.id, cause.certainty.value) == ("kernel-not-reached", "possible")
        assert not diagnosis.explanation.chain


def test_a_kernel_that_takes_an_interrupt_is_seen() -> None:
    kernels = (
        taken(0xFFFFFFFF80001000, 0x08, "ffffffff80142000 00000037"),
        taken(0xF023369, 0x28, "000000000f5dc000 00000047"),
    )
    for kernel in kernels:
        for before in (BIOS, UEFI):
            assert read(before + kernel).explanation.status is Status.HEALTHY


def test_a_file_that_is_cut_off_says_no_more_than_so_far() -> None:
    diagnosis = read(BIOS + RESET[: RESET.index("GDT")])
    assert diagnosis.explanation.status is Status.HEALTHY
    assert "so far" in diagnosis.explanation.headline
    assert "nothing of a kernel" in diagnosis.explanation.headline
    assert not diagnosis.causes
