# SPDX-License-Identifier: BSD-2-Clause
"""What needs no debugger: places, options, command lines, the guest's console."""

from __future__ import annotations

from pathlib import Path

import pytest

from debug.gdb.guest_console import GuestConsole
from debug.gdb.options import command_line, gdb_arguments, parse, qemu_arguments
from debug.gdb.places import NoSuchStage, Places, base_of
from debug.stages.checksum import encode
from debug.stages.model import Site
from debug.stages.table import BUILT_IN

SITES = (Site(0x3C1, 0x34, "compat32"), Site(0xFFFFFFFF8010A2A0, 0xB8, "long64"))


@pytest.mark.parametrize(
    "options, base",
    [
        ("", 0x8000),
        ("selftest", 0x8000),
        ("trampoline=0x9000 selftest", 0x9000),
        ("trampoline=36864", 0x9000),
    ],
)
def test_the_trampoline_is_where_the_options_say(options: str, base: int) -> None:
    assert base_of(options) == base


@pytest.mark.parametrize("value", ["", "x", "0", "0x8001", "0xa0000", "-4096"])
def test_no_page_of_low_memory(value: str) -> None:
    with pytest.raises(ValueError, match="page address"):
        base_of(f"trampoline={value}")


def test_sites_follow_the_trampoline() -> None:
    places = Places(BUILT_IN, SITES)
    assert places.address(SITES[0]) == 0x83C1
    assert places.moved(0x9000).address(SITES[0]) == 0x93C1
    assert places.moved(0x9000).address(SITES[1]) == SITES[1].address
    found = places.moved(0x9000).at(0x93C1)
    assert found is not None and found.name == "AP_PG"
    assert places.at(0x93C1) is None and places.at(None) is None


@pytest.mark.parametrize("text", ["AP_PG", "ap_pg", "34", "0x34"])
def test_a_stage_by_name_and_by_code(text: str) -> None:
    assert Places(BUILT_IN, SITES).stage(text).code == 0x34


@pytest.mark.parametrize(
    "text, offer", [("AP_PQ", "AP_PG"), ("BSP_C4", "BSP_C"), ("zzz", "--list"), ("", "--list")]
)
def test_no_such_stage(text: str, offer: str) -> None:
    with pytest.raises(NoSuchStage) as caught:
        Places(BUILT_IN, SITES).stage(text)
    assert offer in str(caught.value)


def test_command_lines() -> None:
    options = parse(command_line(), ["--cpus", "8", "--options", "a b", "--", "-m", "512M"])
    words = qemu_arguments("/usr/bin/qemu", options, "/k.elf", "/tmp/a,b/gdb")
    assert words[:5] == ["/usr/bin/qemu", "-kernel", "/k.elf", "-smp", "8"]
    assert words[words.index("-append") + 1] == "a b"
    assert "socket,id=lamppost-gdb,path=/tmp/a,,b/gdb,server=on,wait=off" in words
    assert words[-2:] == ["-m", "512M"]
    assert not any("tcp" in word or word == "-s" for word in words)
    batch = gdb_arguments("gdb", Path("/it's"), Path("/c"), "script.gdb")
    assert batch[:4] == ["gdb", "-nx", "-q", "-batch"] and batch[-2:] == ["-x", "script.gdb"]
    assert '"/it\'s"' in next(word for word in batch if word.startswith("python "))
    plain = gdb_arguments("gdb", Path("/r"), Path("/c"), None)
    assert "-batch" not in plain and "-directory" not in plain
    lab = gdb_arguments("gdb", Path("/r"), Path("/c"), None, Path("/lab/tree"))
    assert lab[lab.index("-directory") + 1] == "/lab/tree"


def test_the_console_has_neither_frames_nor_escapes(tmp_path: Path) -> None:
    path = tmp_path / "e9"
    console = GuestConsole(str(path))
    assert console.since_last() == ""
    path.write_bytes(b"hello \x1b[31mred\n" + encode(1, 0x34, None, 0) + b"half")
    assert console.since_last() == "\nguest console\n  | hello red\n"
    with path.open("ab") as file:
        file.write(b" a line\n" + b"".join(b"line %d\n" % n for n in range(40)))
    shown = console.since_last()
    assert "(29 lines before)" in shown and "| line 39" in shown and "line 27" not in shown
    assert GuestConsole(None).since_last() == ""
