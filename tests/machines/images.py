# SPDX-License-Identifier: BSD-2-Clause
"""The images by name: where each comes from, and the machine that it boots on."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from tests.machines import packages
from tests.machines.vmlinux import unpack

MEMORY = "256"
OVMF = "/usr/share/ovmf/OVMF.fd"


@dataclass(frozen=True)
class Image:
    """One image.  `made` gives its file, which a patch is applied to a copy of."""

    made: Callable[[], Path]
    arguments: Callable[[Path, int], tuple[str, ...]]  # QEMU's, for the file and so many CPUs
    until: str | None = None  # what it says when it is up


def qemu(*arguments: str, cpus: int) -> tuple[str, ...]:
    """A machine without a network, on every host the same."""
    machine = ("qemu-system-x86_64", "-accel", "tcg", "-m", MEMORY, "-smp", str(cpus))
    return (*machine, "-display", "none", "-net", "none", *arguments)


def _memtest(kind: str) -> Image:
    return Image(
        lambda: packages.file("memtest86+", f"boot/memtest86+{kind}.bin"),
        lambda file, cpus: qemu("-kernel", str(file), *MEMTEST, cpus=cpus),
        "Pass|Test",
    )


def _xen() -> Path:
    packed = packages.file("xen-hypervisor-4.17-amd64", "boot/xen-4.17-amd64.gz")
    return derived(packed, "xen.elf", lambda: gzip.decompress(packed.read_bytes()))


def bzimage() -> Path:
    """Linux as its package has it."""
    return packages.file(packages.newest_linux(), "boot/vmlinuz-*")


def _vmlinux() -> Path:
    packed = bzimage()
    return derived(packed, "vmlinux", lambda: unpack(packed.read_bytes()))


def _linux(file: Path, cpus: int) -> tuple[str, ...]:
    return qemu("-kernel", str(file), "-append", LINUX, cpus=cpus)


def derived(source: Path, name: str, make: Callable[[], bytes]) -> Path:
    """A file made from another one, once."""
    path = packages.WHERE / name
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        path.write_bytes(make())
    return path


# No wait for a key before the CPUs are started; with no level 3 cache to measure it is there soon.
MEMTEST = ("-append", "console=ttyS0,115200 nopause nosm", "-cpu", "qemu64,l3-cache=off")
LINUX_IS_UP = "smp: Brought up|Unable to mount root"
LINUX = "console=ttyS0 panic=0"
IMAGES = {
    "memtest-x64": _memtest("x64"),
    "memtest-ia32": _memtest("ia32"),
    # Whatever file stands for the kernel of its first domain: the CPUs come up before it is read.
    "xen": Image(
        _xen,
        lambda file, cpus: qemu(
            *("-kernel", str(file), "-initrd", str(bzimage())),
            *("-append", "console=com1 com1=115200,8n1 noreboot"),
            cpus=cpus,
        ),
        "Brought up",
    ),
    "linux": Image(bzimage, _linux, LINUX_IS_UP),
    # Unpacked, and started by PVH: so that what is packed in a bzImage can be patched.
    "vmlinux": Image(_vmlinux, _linux, LINUX_IS_UP),
    "ipxe": Image(
        lambda: packages.file("ipxe", "boot/ipxe.lkrn"),
        lambda file, cpus: qemu("-kernel", str(file), "-serial", "null", cpus=cpus),
    ),
    "u-boot": Image(
        lambda: packages.file("u-boot-qemu", "usr/lib/u-boot/qemu-x86_64/u-boot.rom"),
        lambda file, cpus: qemu("-bios", str(file), cpus=cpus),
        "autoboot",
    ),
}
