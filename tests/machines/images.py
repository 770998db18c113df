# SPDX-License-Identifier: BSD-2-Clause
"""The images by name: where each comes from, and the machine that it boots on."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping

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


def _esp(name: str, program: Path, files: Mapping[str, Path | str] | None = None) -> Path:
    """A directory that OVMF takes for a disk: it starts the program, which finds the files."""
    folder = packages.WHERE / name
    place = folder / "EFI" / "BOOT"
    place.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Path | str] = {"BOOTX64.EFI": program}
    contents.update(files or {})
    for file, content in contents.items():
        if isinstance(content, str):
            (place / file).write_text(content, encoding="ascii")
        else:
            shutil.copy(content, place / file)
    return folder


def _xen_esp() -> Path:
    program = packages.file("xen-hypervisor-4.17-amd64", "boot/xen-4.17-amd64.efi")
    settings = f"[global]\ndefault=it\n[it]\noptions={XEN}\nkernel=kernel\n"
    return _esp("xen-esp", program, {"kernel": bzimage(), "BOOTX64.cfg": settings})


def _ipxe_esp() -> Path:
    return _esp("ipxe-esp", packages.file("ipxe", "boot/ipxe.efi"))


def _boots_esp(folder: Path, cpus: int) -> tuple[str, ...]:
    disk = f"format=raw,readonly=on,if=virtio,file=fat:{folder}"
    return qemu("-bios", OVMF, "-drive", disk, cpus=cpus)


def _grub() -> Path:
    """A disk with nothing but GRUB, which ends at its rescue prompt."""
    first = packages.file("grub-pc-bin", "usr/lib/grub/i386-pc/boot.img")
    core = packages.WHERE / "core.img"
    modules = ("biosdisk", "serial", "terminal")
    packages.run(
        *("grub-mkimage", "-O", "i386-pc", "-d", str(first.parent), "-p", "/grub"),
        *("-o", str(core), *modules),
    )
    disk = packages.WHERE / "grub.disk"
    disk.write_bytes((first.read_bytes() + core.read_bytes()).ljust(1 << 20, b"\0"))
    return disk


def derived(source: Path, name: str, make: Callable[[], bytes]) -> Path:
    """A file made from another one, once."""
    path = packages.WHERE / name
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        path.write_bytes(make())
    return path


SPOKEN = ("-machine", "graphics=off")  # what is written to the screen goes to COM1
# No wait for a key before the CPUs are started; with no level 3 cache to measure it is there soon.
MEMTEST = ("-append", "console=ttyS0,115200 nopause nosm", "-cpu", "qemu64,l3-cache=off")
LINUX_IS_UP = "smp: Brought up|Unable to mount root"
LINUX = "console=ttyS0 panic=0"
XEN = "console=com1 com1=115200,8n1 noreboot"
IMAGES = {
    "memtest-x64": _memtest("x64"),
    "memtest-ia32": _memtest("ia32"),
    "memtest-efi": Image(
        lambda: packages.file("memtest86+", "boot/memtest86+x64.efi"),
        lambda file, cpus: qemu("-bios", OVMF, "-kernel", str(file), *MEMTEST, cpus=cpus),
        "Pass|Test",
    ),
    # Whatever file stands for the kernel of its first domain: the CPUs come up before it is read.
    "xen": Image(
        _xen,
        lambda file, cpus: qemu(
            *("-kernel", str(file), "-initrd", str(bzimage())),
            *("-append", XEN),
            cpus=cpus,
        ),
        "Brought up",
    ),
    "xen-efi": Image(_xen_esp, _boots_esp, "Brought up"),
    "linux": Image(bzimage, _linux, LINUX_IS_UP),
    "linux-efi": Image(
        bzimage, lambda file, cpus: (*_linux(file, cpus), "-bios", OVMF), LINUX_IS_UP
    ),
    # Unpacked, and started by PVH: so that what is packed in a bzImage can be patched.
    "vmlinux": Image(_vmlinux, _linux, LINUX_IS_UP),
    "ipxe": Image(
        lambda: packages.file("ipxe", "boot/ipxe.lkrn"),
        lambda file, cpus: qemu(*SPOKEN, "-kernel", str(file), cpus=cpus),
        "iPXE",
    ),
    "ipxe-efi": Image(_ipxe_esp, _boots_esp, "iPXE"),
    "grub": Image(
        _grub,
        lambda file, cpus: qemu(*SPOKEN, "-drive", f"format=raw,file={file}", cpus=cpus),
        "grub rescue>",
    ),
    "u-boot": Image(
        lambda: packages.file("u-boot-qemu", "usr/lib/u-boot/qemu-x86_64/u-boot.rom"),
        lambda file, cpus: qemu("-bios", str(file), cpus=cpus),
        "autoboot",
    ),
}
