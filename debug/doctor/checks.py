# SPDX-License-Identifier: BSD-2-Clause
"""What is tried, in which part of the product it is used, and what is lost without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from debug.doctor import probes
from debug.doctor.probes import Finding

QEMU = "qemu-system-x86_64"
PARTS = {
    "diagnoser": "reading evidence and naming causes",
    "qemu": "machines on QEMU",
    "bochs": "machines on Bochs",
    "gdb": "the lamp commands in GDB",
    "kernel": "building the kernel and the labs",
}


@dataclass(frozen=True)
class Check:
    """One thing that is tried.  `package` is Debian's; without an optional one nothing is broken."""

    part: str
    name: str
    probe: Callable[[], Finding]
    package: str
    cost: str
    optional: bool = False


def _python(name: str, package: str, cost: str) -> Check:
    return Check("diagnoser", f"Python: {name}", lambda: probes.module(name), package, cost)


def _tool(name: str, package: str, cost: str, *flags: str) -> Check:
    return Check("kernel", name, lambda: probes.program(name, *flags), package, cost)


CHECKS = (
    _python("elftools", "python3-pyelftools", "no names and source lines of the guest's code"),
    _python("capstone", "python3-capstone", "instructions can't be decoded: no diagnosis at all"),
    _python("rich", "python3-rich", "no timelines and no report in a terminal"),
    Check(
        "qemu",
        "starts and answers",
        lambda: probes.qemu_answers(QEMU),
        "qemu-system-x86",
        "`lamppost run -- qemu-system-x86_64` can't start a machine or keep it at its death;"
        " logs, cores and pasted text are explained all the same",
    ),
    Check(
        "qemu",
        "logs exceptions",
        lambda: probes.qemu_logs(QEMU),
        "qemu-system-x86",
        "the chain of exceptions before a death must be derived from its last state",
    ),
    Check(
        "qemu",
        "UEFI firmware",
        lambda: probes.file("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/ovmf/OVMF.fd"),
        "ovmf",
        "no UEFI machine can be booted",
        optional=True,
    ),
    Check(
        "qemu",
        "KVM",
        probes.kvm,
        "",
        "machines run emulated, which is slower and what every report here was measured on",
        optional=True,
    ),
    Check(
        "bochs",
        "starts, debugs, several CPUs",
        probes.bochs_debugs,
        "bochs bochsbios vgabios bochs-sdl",
        "`lamppost run -- bochs` can't start a machine: no second opinion where QEMU is lax",
    ),
    Check(
        "gdb",
        "has Python and its modules",
        probes.gdb_has_python,
        "gdb python3-rich python3-pyelftools python3-capstone",
        "no `make gdb`, no `lamppost attach` and no lamp commands in your own sessions",
    ),
    _tool("make", "make", "nothing here can be built"),
    _tool("gcc", "gcc", "the kernel's C can't be compiled"),
    _tool("ld", "binutils", "the kernel can't be linked"),
    _tool("nasm", "nasm", "the trampoline can't be assembled"),
    _tool("patch", "patch", "no lab can be built: each is a patch"),
    _tool("grub-mkrescue", "grub-common", "no ISO: the kernel boots with `qemu -kernel` only"),
    _tool("xorriso", "xorriso", "no ISO: grub-mkrescue calls it"),
    _tool("mformat", "mtools", "no ISO: grub-mkrescue calls it"),
    Check(
        "kernel",
        "GRUB for BIOS machines",
        lambda: probes.file("/usr/lib/grub/i386-pc/moddep.lst"),
        "grub-pc-bin",
        "the ISO boots no BIOS machine: no Bochs",
    ),
    Check(
        "kernel",
        "GRUB for UEFI machines",
        lambda: probes.file("/usr/lib/grub/x86_64-efi/moddep.lst"),
        "grub-efi-amd64-bin",
        "the ISO boots no UEFI machine",
    ),
)
