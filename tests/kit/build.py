# SPDX-License-Identifier: BSD-2-Clause
"""Builds the foreign kernels with the kit, as their owners would: no part of our own build."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tree import TREE

KIT = TREE / "trampoline/kit"
HERE = Path(__file__).parent
LIMIT = 60  # seconds
GCC = (
    "gcc -std=c11 -O2 -ffreestanding -fno-pic -fno-stack-protector -mgeneral-regs-only"
    " -mno-red-zone -Wall -Wextra -Werror"
).split()


def tool(*argv: str) -> None:
    """Run a tool that must have nothing to say."""
    done = subprocess.run(argv, capture_output=True, timeout=LIMIT, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0 and said == "", f"{' '.join(argv)}\n{said}"


def nasm(source: Path, output: Path, *defines: str, form: str = "elf32") -> Path:
    """Assemble with NASM; defines as NAME or NAME=VALUE.  Returns `output`."""
    # NASM's own macros name warnings that it does not know.
    warnings = ("-w+all", "-w+error", "-w-unknown-warning")
    given = [f"-d{define}" for define in defines]
    tool("nasm", "-f", form, *warnings, f"-I{KIT}/", *given, "-o", str(output), str(source))
    return output


def gcc(source: Path, output: Path, *defines: str, bits: int = 32) -> Path:
    """Compile, or assemble with GAS."""
    given = [f"-D{define}" for define in defines]
    search = (f"-I{KIT}", f"-Wa,-I{KIT},--fatal-warnings,--noexecstack")
    tool(*GCC, f"-m{bits}", *search, *given, "-c", "-o", str(output), str(source))
    return output


def link(output: Path, *objects: Path, bits: int = 32) -> Path:
    """A kernel that QEMU's Multiboot loader takes."""
    emulation = "elf_i386" if bits == 32 else "elf_x86_64"
    script = str(HERE / "foreign.ld")
    names = [str(path) for path in objects]
    tool("ld", "-m", emulation, "-T", script, "-z", "noexecstack", "-o", str(output), *names)
    if bits == 64:
        tool("objcopy", "-O", "elf32-i386", str(output))
    return output


def nasm_kernel(directory: Path, *defines: str) -> Path:
    """The kernel in NASM."""
    part = nasm(HERE / "nasm_kernel.asm", directory / "kernel.o", *defines)
    return link(directory / "kernel.elf", part)


def gas_kernel(directory: Path, *defines: str) -> Path:
    """The kernel in GAS."""
    part = gcc(HERE / "gas_kernel.S", directory / "kernel.o", *defines)
    return link(directory / "kernel.elf", part)


def c_kernel(directory: Path, bits: int, *defines: str) -> Path:
    """The kernel in C, of 32 or 64 bits."""
    start = gcc(HERE / "c_start.S", directory / "start.o", *defines, bits=bits)
    rest = gcc(HERE / "c_kernel.c", directory / "kernel.o", *defines, bits=bits)
    return link(directory / "kernel.elf", start, rest, bits=bits)
