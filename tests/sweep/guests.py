# SPDX-License-Identifier: BSD-2-Clause
"""Healthy machines that nobody here built: memtest86+ and Linux, as Debian packages them.

The packages are unpacked below build/machines, not installed.  Linux gets an init that says that it
runs, and then sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from debug.kernel.machine import Kernel
from tests.machines import packages
from tests.machines.images import bzimage

INIT_SAYS = "lamppost: init is running"

_INIT = f"""
.globl _start
_start:
    mov $1, %eax
    mov $1, %edi
    lea text(%rip), %rsi
    mov $(end - text), %edx
    syscall
1:  mov $34, %eax               # pause(2)
    syscall
    jmp 1b
text: .ascii "{INIT_SAYS}\\n"
end:
"""


@dataclass(frozen=True)
class Guest:
    """One healthy machine: its command line for a number of CPUs, and what it says when it is up."""

    name: str
    until: str | None
    command: Callable[[int], tuple[str, ...]]
    cpus: tuple[int, ...] = (1, 2, 4, 8)


def guests() -> list[Guest]:
    """All of them, fetched and built.  Raises MachineError."""
    memtest = packages.file("memtest86+", "boot/memtest86+x64.bin")
    linux = bzimage()
    initrd = _initrd()
    return [
        Guest("lamppost", None, lambda n: Kernel(cpus=n).qemu(), (1, 2, 3, 4, 8, 16, 64)),
        Guest(
            "memtest86+",
            "Pass|Test",
            lambda n: (*_qemu(n, memtest), "-append", "console=ttyS0,115200"),
        ),
        Guest(
            "linux",
            INIT_SAYS,
            lambda n: (
                *_qemu(n, linux),
                *("-initrd", str(initrd), "-append", "console=ttyS0 panic=0"),
            ),
        ),
    ]


def _qemu(cpus: int, kernel: Path) -> tuple[str, ...]:
    machine = ("qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-smp", str(cpus))
    return (*machine, "-kernel", str(kernel))


def _initrd() -> Path:
    """A cpio archive (newc) with /init and the device that it writes to."""
    source, program = packages.WHERE / "init.s", packages.WHERE / "init"
    source.write_text(_INIT)
    packages.run("gcc", "-nostdlib", "-static", "-o", str(program), str(source))
    entries = [
        ("dev", 0o040755, b"", (0, 0)),
        ("dev/console", 0o020600, b"", (5, 1)),
        ("init", 0o100755, program.read_bytes(), (0, 0)),
        ("TRAILER!!!", 0, b"", (0, 0)),
    ]
    archive = b"".join(_member(number, *entry) for number, entry in enumerate(entries, 1))
    path = packages.WHERE / "initrd"
    path.write_bytes(archive)
    return path


def _member(number: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
    header = b"070701" + b"".join(b"%08x" % value for value in fields) + raw
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
