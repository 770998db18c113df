# SPDX-License-Identifier: BSD-2-Clause
"""The boot matrix: every row of matrix.tsv on its emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from tests.boot import machine, verdict
from tests.tables import read_table

pytestmark = pytest.mark.emulator

STREAMS = ("e9", "com1")
EXITS = verdict.exit_codes()


class Row(NamedTuple):
    name: str
    emulator: str
    boot: str
    cpus: str
    options: str
    machine: str
    exit: str
    online: str
    ids: str
    frames: str
    says: str


def read_rows() -> list[Row]:
    return [Row(**row) for row in read_table(Path(__file__).with_name("matrix.tsv"))]


def row_name(row: Row) -> str:
    return row.name


def words(field: str, separator: str) -> list[str]:
    """A field's parts; - for none."""
    return [] if field == "-" else field.split(separator)


def apic_ids(field: str) -> list[int]:
    """`0-2 4-6` is 0 1 2 4 5 6."""
    ids: list[int] = []
    for part in words(field, " "):
        first, _, last = part.partition("-")
        ids += range(int(first), int(last or first) + 1)
    return ids


def start(row: Row, kernel: Path, iso: Callable[[str], Path], directory: Path) -> machine.Machine:
    if row.emulator == "bochs":
        return machine.bochs(iso(row.options), int(row.cpus), directory, row.machine)
    image = (
        ["-cdrom", str(iso(row.options)), "-boot", "d"]
        if row.boot == "iso"
        else machine.kernel_image(kernel, row.options)
    )
    return machine.qemu(image, row.cpus, words(row.machine, " "))


@pytest.mark.parametrize("row", read_rows(), ids=row_name)
def test_row(row: Row, kernel: Path, iso: Callable[[str], Path], tmp_path: Path) -> None:
    with start(row, kernel, iso, tmp_path) as guest:
        boot = guest.run()
    assert boot.exit_code is not None, f"it hangs: {boot.e9[-1000:]!r}"
    if row.emulator == "qemu":
        assert boot.exit_code == EXITS[row.exit] << 1 | 1, boot.e9[-2000:].decode("latin-1")

    ids = apic_ids(row.ids)
    consoles = {}
    for name, stream in zip(STREAMS, (boot.e9, boot.com1)):
        trace = verdict.decode_whole(stream, name)
        consoles[name] = trace.console
        traced = name in words(row.frames, " ")
        verdict.check_aps(trace, [i for i in ids if i] if traced else [], name)
        if traced:
            assert verdict.exit_argument(trace) == EXITS[row.exit], name
        if row.online != "-":
            assert trace.console.count(f"{row.online} CPUs online\n") == 1, trace.console
            assert "not ok" not in trace.console
        for text in words(row.says, " & "):
            assert trace.console.count(text) == 1, f"{name}: {text!r}: {trace.console}"
        # Each AP says hello once.
        hellos = trace.console.count("Hello from CPU ")
        assert hellos == (len(ids) - 1 if row.online != "-" else 0), trace.console
    if row.emulator == "qemu":  # Bochs's debugger talks on its stdout too
        # UEFI's console is COM1 as well: it speaks there before the kernel does.
        com1 = consoles["com1"].replace("\r", "")
        com1 = com1[max(com1.find("lamppost: "), 0) :] if "ovmf" in row.machine else com1
        assert consoles["e9"] == com1, "the consoles differ"
