# SPDX-License-Identifier: BSD-2-Clause
"""How the kernel is run: the one place that knows its command lines and its build products."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAMPOLINE_DEFAULT = 0x8000
DEBUG_EXIT_PORT = 0xF4  # src/lib/exit.c
MEMORY_MIB = 128
LOAD_ADDRESS = 0x100000  # KERNEL_PHYSICAL of src/mm/layout.h
ET_DYN = 3  # in an ELF header: a PIE
# A boot that is the same to the last TSC value, however busy the host is.
REPEATABLE = ("-icount", "shift=0,sleep=off", "-rtc", "base=2020-01-01,clock=vm")


def load_offset(elf: Path) -> int:
    """How far from where it is linked a build of the kernel runs: a PIE is linked at 0."""
    try:
        with open(elf, "rb") as file:
            kind = file.read(18)[16:]
    except OSError:
        return 0
    return LOAD_ADDRESS if int.from_bytes(kind, "little") == ET_DYN else 0


@dataclass(frozen=True)
class Kernel:
    """One build of the kernel: its directory, and how it is to be booted."""

    build: Path = ROOT / "build"
    cpus: int = 4
    options: str = ""  # the kernel command line
    extra: tuple[str, ...] = field(default=())  # more arguments for the emulator

    @property
    def elf(self) -> Path:
        return self.build / "lamppost.elf"

    @property
    def iso(self) -> Path:
        return self.build / "lamppost.iso"

    @property
    def trampoline_elf(self) -> Path:
        return self.build / "trampoline.elf"

    @property
    def trampoline(self) -> int:
        """Where the kernel will put the trampoline, as far as its options say."""
        for word in self.options.split():
            name, _, value = word.partition("=")
            if name == "trampoline":
                try:
                    return int(value, 0)
                except ValueError:
                    break
        return TRAMPOLINE_DEFAULT

    @property
    def symbols(self) -> tuple[tuple[Path, int], ...]:
        """The kernel's ELF and the trampoline's, at the address where it runs."""
        return ((self.elf, self.offset), (self.trampoline_elf, self.trampoline))

    @property
    def offset(self) -> int:
        """How far from where it is linked the kernel runs."""
        return load_offset(self.elf)

    def qemu(self, accel: str = "tcg") -> tuple[str, ...]:
        """The command line for QEMU, without any console or display option."""
        return (
            "qemu-system-x86_64",
            *("-accel", accel),
            *("-m", str(MEMORY_MIB), "-smp", str(self.cpus)),
            *("-kernel", str(self.elf), "-append", self.options),
            *("-device", f"isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=4"),
            *self.extra,
        )

    def bochs(self) -> tuple[str, ...]:
        """The command line for Bochs: the bochsrc as it stands, with this build's ISO."""
        return (
            *("bochs", "-q", "-f", str(ROOT / "bochsrc")),
            f"ata0-master: type=cdrom, path={self.iso}, status=inserted",
            f"cpu: count={self.cpus}",
            *self.extra,
        )
