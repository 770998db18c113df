# SPDX-License-Identifier: BSD-2-Clause
"""What firmware and loader must never pass, passed: changed in memory at the kernel's entry.

Bad options, machines without ACPI and CPUs without long mode are rows of matrix.tsv.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import pytest

from debug.sources.elf_symbols import ElfFile
from debug.stages.table import BUILT_IN
from tests.boot import machine, verdict
from tests.boot.gdbstub import RBX, GdbStub

pytestmark = pytest.mark.emulator

CPUS = 2
RAM_SIZE = 16 << 20  # bytes: SeaBIOS puts the ACPI tables at its end
EXITS = verdict.exit_codes()

_MMAP_LENGTH = 44  # offsets in Multiboot 1's structure
_FLAGS_AT = 0
_HAS_MMAP = 1 << 6
_RESERVED = 2


def find_table(gdb: GdbStub, signature: bytes) -> int:
    """The physical address of an ACPI table."""
    top = RAM_SIZE
    data = gdb.read(top - 0x20000, 0x20000)
    at = data.find(signature)
    while at >= 0:
        length = struct.unpack_from("<I", data, at + 4)[0]
        if 36 <= length <= len(data) - at and sum(data[at : at + length]) & 0xFF == 0:
            return top - 0x20000 + at
        at = data.find(signature, at + 1)
    raise AssertionError(f"firmware left no table {signature!r}")


def patch(gdb: GdbStub, address: int, data: bytes) -> None:
    assert gdb.read(address, len(data)) != data, "nothing to change"
    gdb.write(address, data)


def spoil_checksum(gdb: GdbStub) -> None:
    madt = find_table(gdb, b"APIC")
    patch(gdb, madt + 9, bytes([gdb.read(madt + 9, 1)[0] ^ 0x40]))


def spoil_length(gdb: GdbStub) -> None:
    patch(gdb, find_table(gdb, b"APIC") + 4, struct.pack("<I", 40))


def hide_madt(gdb: GdbStub) -> None:
    patch(gdb, find_table(gdb, b"APIC"), b"XXXX")


def spoil_rsdp(gdb: GdbStub) -> None:
    bios = gdb.read(0xE0000, 0x20000)
    at = bios.find(b"RSD PTR ")
    while at >= 0:
        gdb.write(0xE0000 + at + 8, bytes([bios[at + 8] ^ 1]))
        at = bios.find(b"RSD PTR ", at + 1)


def regions(gdb: GdbStub) -> list[tuple[int, int, int]]:
    """Address of the entry, start and length of each region that Multiboot lists."""
    info = gdb.register(RBX)
    length, address = struct.unpack("<II", gdb.read(info + _MMAP_LENGTH, 8))
    found, at = [], address
    while at < address + length:
        size, start, bytes_, _ = struct.unpack("<IQQI", gdb.read(at, 24))
        found.append((at, start, bytes_))
        at += size + 4
    return found


def take_low_memory(gdb: GdbStub) -> None:
    for at, start, _ in regions(gdb):
        if start < 0xA0000:
            gdb.write(at + 20, struct.pack("<I", _RESERVED))


def leave_one_low_page(gdb: GdbStub) -> None:
    for at, start, _ in regions(gdb):
        if start == 0:
            patch(gdb, at + 4, struct.pack("<QQ", 0x8000, 0x1000))


def hide_map(gdb: GdbStub) -> None:
    info = gdb.register(RBX)
    flags = struct.unpack("<I", gdb.read(info + _FLAGS_AT, 4))[0]
    patch(gdb, info + _FLAGS_AT, struct.pack("<I", flags & ~_HAS_MMAP))


def endless_map(gdb: GdbStub) -> None:
    for at, _, _ in regions(gdb):
        gdb.write(at, struct.pack("<I", 0xFFFFFFFC))


def leave_little_memory(gdb: GdbStub) -> None:
    """What is called RAM ends inside the kernel."""
    for at, start, _ in regions(gdb):
        if start == 0x100000:
            patch(gdb, at + 12, struct.pack("<Q", 0x10000))


CASES: dict[str, tuple[Callable[[GdbStub], None], str, tuple[str, ...]]] = {
    "madt-checksum": (spoil_checksum, "BAD_MADT", ("do not add up to 0", "update the firmware")),
    "madt-length": (spoil_length, "BAD_MADT", ("shorter than a MADT's header",)),
    "no-madt": (hide_madt, "NO_ACPI", ('no MADT: expected a table "APIC"', "found none")),
    "no-rsdp": (spoil_rsdp, "NO_ACPI", ("no ACPI: expected an RSDP", "found none")),
    "no-low-page": (take_low_memory, "NO_LOW_PAGE", ("no free page below 640 KiB",)),
    "one-low-page": (leave_one_low_page, "NO_LOW_PAGE", ("pages below 640 KiB for the trace",)),
    "no-memory-map": (hide_map, "BAD_LOADER", ("no memory map",)),
    "little-memory": (leave_little_memory, "NO_MEMORY", ("KiB of free memory", "qemu -m 128")),
    "endless-memory-map": (endless_map, "BAD_LOADER", ("damaged",)),
}


def boot_spoilt(
    kernel: Path,
    spoil: Callable[[GdbStub], None],
    cpus: str = str(CPUS),
    image: Optional[list[str]] = None,
) -> machine.Boot:
    """A self-test boot whose memory is changed when the kernel is entered."""
    entry = ElfFile(kernel / "lamppost.elf").address("boot_start32")
    assert entry is not None
    image = image or machine.kernel_image(kernel, "selftest")
    extra = ["-accel", machine.SINGLE, "-m", f"{RAM_SIZE >> 20}M"]
    with machine.qemu(image, cpus, extra, gdb=True) as guest:
        gdb = guest.gdb
        assert gdb is not None
        assert gdb.run_to(entry) == 0
        gdb.use_physical_memory()
        spoil(gdb)
        gdb.resume()
        return guest.run()


@pytest.mark.parametrize("name", CASES)
def test_one_clear_message(kernel: Path, name: str) -> None:
    spoil, code, texts = CASES[name]
    boot = boot_spoilt(kernel, spoil)
    assert boot.exit_code == EXITS[code] << 1 | 1, boot.e9.decode("latin-1")
    for stream in (boot.e9, boot.com1):
        trace = verdict.decode_whole(stream, name)
        message = [line for line in trace.console.splitlines() if texts[0] in line]
        assert len(message) == 1, trace.console
        assert message[0].startswith("lamppost: ")
        assert all(text in message[0] for text in texts), message[0]
        assert verdict.exit_argument(trace) == EXITS[code]


def swap_regions(gdb: GdbStub) -> None:
    found = [at for at, start, _ in regions(gdb) if start in (0, 0x100000)]
    one, other = (gdb.read(at + 4, 20) for at in found)
    gdb.write(found[0] + 4, other)
    gdb.write(found[1] + 4, one)


def claim_default_page(gdb: GdbStub) -> None:
    """Another type claims 0x8000 too, as firmware may."""
    for at, start, _ in regions(gdb):
        if start == 0xF0000:
            gdb.write(at + 4, struct.pack("<QQ", 0x8000, 1))


def wrap_region(gdb: GdbStub) -> None:
    for at, start, _ in regions(gdb):
        if start == 0xF0000:
            gdb.write(at + 4, struct.pack("<QQ", (1 << 64) - 0x1000, 0x2000))


REPAIRED: dict[str, tuple[Callable[[GdbStub], None], str, int]] = {
    "unsorted": (swap_regions, "", 0x8000),
    "overlap": (claim_default_page, "entries of different types overlap in 1 places", 0x9000),
    "wrap": (wrap_region, "1 entries ignored", 0x8000),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_a_map_that_can_be_used_is(kernel: Path, name: str) -> None:
    spoil, text, page = REPAIRED[name]
    boot = boot_spoilt(kernel, spoil)
    assert boot.exit_code == EXITS["OK"] << 1 | 1, boot.e9.decode("latin-1")
    trace = verdict.decode_whole(boot.e9, name)
    assert trace.console.count("memory map: ") == bool(text)
    assert text in trace.console
    copied = BUILT_IN.by_name["BSP_TRAMPOLINE"].code
    assert [f.argument for f in trace.frames if f.code == copied] == [page]


def spoil_loaders_rsdp(gdb: GdbStub) -> None:
    """In the tags of Multiboot 2."""
    info = gdb.register(RBX)
    tags = gdb.read(info, struct.unpack("<I", gdb.read(info, 4))[0])
    at = tags.find(b"RSD PTR ")
    assert at >= 0, "GRUB passes none"
    while at >= 0:
        gdb.write(info + at + 8, bytes([tags[at + 8] ^ 1]))
        at = tags.find(b"RSD PTR ", at + 1)


@pytest.mark.parametrize("spoil", [spoil_rsdp, spoil_loaders_rsdp])
def test_the_loaders_rsdp_is_used_or_the_bioss(
    kernel: Path, iso: Callable[[str], Path], spoil: Callable[[GdbStub], None]
) -> None:
    image = ["-cdrom", str(iso("selftest")), "-boot", "d"]
    boot = boot_spoilt(kernel, spoil, image=image)
    assert boot.exit_code == EXITS["OK"] << 1 | 1, boot.e9.decode("latin-1")


LISTED = "2,maxcpus=4"  # the MADT begins with four entries of type 0: room for two of type 9


def rewrite_cpus(gdb: GdbStub, entries: bytes) -> None:
    """Put entries in place of the first four, and make the checksum right."""
    madt = find_table(gdb, b"APIC")
    assert len(entries) == 32
    patch(gdb, madt + 44, entries)
    gdb.write(madt + 9, b"\0")
    length = struct.unpack("<I", gdb.read(madt + 4, 4))[0]
    gdb.write(madt + 9, bytes([-sum(gdb.read(madt, length)) & 0xFF]))


def apic(apic_id: int, flags: int, length: int = 8) -> bytes:
    return struct.pack("<BBBBI", 0, length, apic_id, apic_id, flags)


def x2apic(apic_id: int, flags: int) -> bytes:
    return struct.pack("<BBHIII", 9, 16, 0, apic_id, flags, apic_id)


class Listed(NamedTuple):
    entries: bytes
    exit: str
    online: str
    says: str


# 1: enabled, 2: online-capable.  The machine has the CPUs 0 and 1.
MADTS = {
    "x2apic-only": Listed(x2apic(0, 1) + x2apic(1, 1), "OK", "2 of 2", ""),
    "both-types": Listed(apic(0, 1) + x2apic(1, 1) + apic(1, 1), "OK", "2 of 2", ""),
    "ap-disabled": Listed(apic(0, 1) + apic(1, 0) + apic(2, 0) + apic(3, 2), "OK", "1 of 1", ""),
    "ap-first": Listed(apic(1, 1) + apic(0, 1) + apic(2, 0) + apic(3, 0), "OK", "2 of 2", ""),
    "id-beyond-xapic": Listed(
        x2apic(0, 1) + x2apic(300, 1),
        "TOO_MANY_CPUS",
        "1 of 1",
        "CPU with APIC ID 300 left alone: xAPIC can't address IDs above 254",
    ),
    "cut-short": Listed(
        apic(0, 1) + apic(1, 1) + apic(2, 0) + apic(3, 1, 250),
        "OK",
        "2 of 2",
        "the MADT has 1 entries whose length can't be right",
    ),
    "absent-cpu": Listed(
        apic(0, 1) + apic(1, 1) + apic(9, 1) + apic(3, 0),
        "MISSING_CPU",
        "2 of 3",
        "CPU 2 (APIC ID 9) did not arrive within",
    ),
}


@pytest.mark.parametrize("name", MADTS)
def test_cpus_are_what_the_madt_lists(kernel: Path, name: str) -> None:
    listed = MADTS[name]
    boot = boot_spoilt(kernel, lambda gdb: rewrite_cpus(gdb, listed.entries), LISTED)
    assert boot.exit_code == EXITS[listed.exit] << 1 | 1, boot.e9.decode("latin-1")
    trace = verdict.decode_whole(boot.e9, name)
    assert f"{listed.online} CPUs online\n" in trace.console
    assert listed.says in trace.console
    assert trace.console.count("MADT") == listed.says.count("MADT")


def test_more_cpus_than_supported(kernel_for_4_cpus: Path) -> None:
    image = machine.kernel_image(kernel_for_4_cpus, "selftest")
    with machine.qemu(image, "8", ["-accel", machine.SINGLE]) as guest:
        boot = guest.run()
    assert boot.exit_code == EXITS["TOO_MANY_CPUS"] << 1 | 1
    trace = verdict.decode_whole(boot.e9, "port 0xE9")
    verdict.check_aps(trace, range(1, 4), "port 0xE9")
    assert trace.console.count("lists 8 usable CPUs, this kernel supports 4") == 1
    assert "make NR_CPUS=8" in trace.console
    assert "4 of 4 CPUs online\n" in trace.console
