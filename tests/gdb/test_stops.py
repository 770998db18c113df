# SPDX-License-Identifier: BSD-2-Clause
"""A session of GDB on four CPUs: the stops, the modes, the instructions, the tables."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from debug.sources.elf_symbols import ElfFile
from tests.gdb.drive import LIMIT, Run, command, environment, left_over, run
from tests.tree import TREE

pytestmark = pytest.mark.emulator

APS = (1, 2, 3)

EVERY_STOP = """
stops = report["stops"] = []
do("lamp break BSP_SCHEDULER")
while True:
    do("continue")
    stops.append(look())
    if stops[-1]["cpu"] == 0 or len(stops) > 20:
        break
report["cpus"] = do("lamp cpus")
report["lines"] = do("lamp stages").splitlines()
"""


@pytest.fixture(scope="module")
def stops(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One boot with all three breakpoints, to the moment when the BSP is done."""
    return run(kernel, tmp_path_factory.mktemp("stops"), EVERY_STOP)


def test_each_ap_stops_once_at_each_of_the_three_places(stops: Run, kernel: Path) -> None:
    trampoline = ElfFile(kernel / "trampoline.elf", 0x8000)
    places = {
        0x8000: "trampoline",
        trampoline.address("lcpu_start64"): "lcpu_start64",
        ElfFile(kernel / "lamppost.elf").address("ap_entry"): "ap_entry",
    }
    seen = Counter((s["cpu"], places.get(s["pc"])) for s in stops.report["stops"][:-1])
    assert seen == Counter({(cpu, place): 1 for cpu in APS for place in places.values()})


def test_a_pie_stops_at_the_same_places(pie_kernel: Path, tmp_path: Path) -> None:
    script = """
do("continue")
report["first"] = look()
do("disable 1-2")
do("continue")
report["then"] = look()
report["name"] = str(gdb.selected_frame().name())
"""
    found = run(pie_kernel, tmp_path, script, "--cpus", "2").report
    entry = ElfFile(pie_kernel / "lamppost.elf", 0x100000).address("ap_entry")
    assert (found["first"]["pc"], found["then"]["pc"]) == (0x8000, entry)
    assert found["name"] == "ap_entry"
    assert "65" in found["then"]["stages"]


def test_the_mode_at_each_stop(stops: Run) -> None:
    for stop in stops.report["stops"]:
        low = int(re.search(r"CR0=([0-9a-f]+)", stop["registers"])[1], 16)  # type: ignore[index]
        expected = "64-bit mode (PE=1 PG=1 LMA=1 CS.L=1" if low & 1 else "real mode (PE=0 PG=0)"
        assert expected in stop["mode"]
        assert bool(low & 1) == (stop["pc"] != 0x8000)


def test_the_instructions_are_those_of_ndisasm(stops: Run, kernel: Path) -> None:
    for stop in stops.report["stops"]:
        check_instructions(stop, 16 if "real mode" in stop["mode"] else 64)


def test_source_lines_in_16_and_64_bit_code(stops: Run) -> None:
    for stop in stops.report["stops"][:-1]:
        first = next(line for line in stop["mode"].splitlines() if "=>" in line)
        source = "src/smp/ap.c:" if stop["pc"] > 0xFFFF else "trampoline/trampoline.asm:"
        assert source in first


def test_the_stages_so_far(stops: Run) -> None:
    by_place: dict[int, set[str]] = {}
    for stop in stops.report["stops"][:-1]:
        codes = re.findall(r"^  ([0-9a-f]{2}) [A-Z]", stop["stages"], re.M)
        by_place.setdefault(stop["pc"], set()).add(" ".join(codes))
    at_c = "10 11 12 13 30 31 32 33 34 60 61 62 63 64 65"
    assert sorted(codes for one in by_place.values() for codes in one) == [
        "",
        "10 11 12 13 30 31 32 33 34",
        at_c,
    ]


def test_all_cpus_at_the_end(stops: Run) -> None:
    rows = stops.report["cpus"].splitlines()[1:]
    assert rows[0].startswith("*  0") and "BSP_BARRIER" in rows[0]
    assert len(rows) == 4
    # The gate is open, and the stop takes its time: an AP may be at work already.
    assert all(re.search(r"64-bit mode .* a[4567] AP_", row) for row in rows[1:]), rows


# What ndisasm calls otherwise.
NAMES = {"jnc": "jae", "jc": "jb"}


def check_instructions(stop: dict[str, Any], width: int) -> None:
    """Each decoded line has the bytes and the mnemonic that ndisasm gives at this address."""
    shown = re.findall(
        r"^  (?:=>|  ) 0x([0-9a-f]+)  ((?:[0-9a-f]{2} )+) *(.+)$", stop["mode"], re.M
    )
    assert len(shown) == 4
    data = bytes.fromhex("".join(code for _, code, _ in shown))
    done = subprocess.run(
        ["ndisasm", f"-b{width}", "-o", hex(int(shown[0][0], 16)), "-"],
        input=data,
        capture_output=True,
        check=True,
    )
    listing = re.sub(r"\n +-([0-9A-F]+)$", r"-\1", done.stdout.decode(), flags=re.M)
    oracle = [
        (address, code + rest, mnemonic)
        for address, code, mnemonic, rest in re.findall(
            r"^([0-9A-F]{8,16})  ([0-9A-F]+) +(\S+)(?:.*-([0-9A-F]+)$)?", listing, re.M
        )
    ]
    assert len(oracle) == 4
    for (address, code, text), (there, bytes_there, mnemonic) in zip(shown, oracle):
        assert int(address, 16) == int(there, 16)
        assert code.replace(" ", "") == bytes_there.lower()
        words = text.split()
        mnemonic = NAMES.get(mnemonic, mnemonic)
        assert mnemonic in (words[0], words[0].lstrip("l"), words[0].replace("movabs", "mov"))


MODES = """
stops = report["stops"] = []
do("disable")
for stage in ("AP_REAL16", "ap_pe", "30", "AP_PG", "AP_LONG64"):
    do("lamp break " + stage)
while len(stops) < 15:
    do("continue")
    stop = look()
    stop["gdt"], stop["idt"] = do("lamp gdt"), do("lamp idt")
    stops.append(stop)
"""

MODE_OF = {
    "AP_REAL16": ("real mode", 16),
    "AP_PE": ("16-bit protected mode", 16),
    "AP_PROT32": ("32-bit protected mode", 32),
    "AP_PG": ("32-bit compatibility mode", 32),
    "AP_LONG64": ("64-bit mode", 64),
}


def test_break_at_stages_of_every_mode(kernel: Path, tmp_path: Path) -> None:
    found = run(kernel, tmp_path, MODES, "--options", "trampoline=0x9000")
    from debug.stages.elf import read_sites
    from debug.stages.table import BUILT_IN

    sites = {
        0x9000 + site.address: BUILT_IN.name(site.code)
        for site in read_sites(str(kernel / "lamppost.elf"))
        if site.in_trampoline
    }
    seen = Counter((stop["cpu"], sites[stop["pc"]]) for stop in found.report["stops"])
    assert seen == Counter({(cpu, name): 1 for cpu in APS for name in MODE_OF})
    for stop in found.report["stops"]:
        mode, width = MODE_OF[sites[stop["pc"]]]
        assert f": {mode} (" in stop["mode"].splitlines()[0]
        check_instructions(stop, width)
        check_tables(stop)
    assert left_over(tmp_path) == []


def check_tables(stop: dict[str, Any]) -> None:
    """GDTR, IDTR and the descriptors that the segment registers were loaded from."""
    dump = stop["registers"]
    for name, text in (("GDT", stop["gdt"]), ("IDT", stop["idt"])):
        base, limit = re.search(rf"{name}=\s+(\w+) (\w+)", dump).groups()  # type: ignore[union-attr]
        assert f"{name}R base {int(base, 16):#x} limit {int(limit, 16):#x}" in text
    for name in ("CS", "DS", "SS"):
        found = re.search(rf"^{name} =(\w+) (\w+) (\w+) (\w+)", dump, re.M)
        assert found is not None
        selector, base, limit, flags = (int(value, 16) for value in found.groups())
        line = next((l for l in stop["gdt"].splitlines() if re.search(rf"<-.*\b{name}\b", l)), None)
        if line is None:  # still the segment that the SIPI or real-mode code left
            assert base == selector << 4
            continue
        assert line.startswith(f"  {selector & 0xFFF8:04x} ")
        assert f"base {base:#x}, limit {limit:#x}, DPL {flags >> 13 & 3}, present" in line
        kind = "data" if not flags & 0x800 else "64-bit code" if flags & 1 << 21 else "32-bit code"
        assert kind in line


WALK = """
do("lamp break BSP_SCHEDULER")
do("disable 1 2 3")
do("continue")
pages = report["pages"] = {}
for line in do("monitor info tlb").splitlines():
    found = re.match(r"([0-9a-f]{16}): ([0-9a-f]{16}) (\\S{9})", line)
    if found:
        pages[int(found[1], 16)] = (int(found[2], 16), found[3])
asked = sorted(pages)
asked = asked[:: max(1, len(asked) // 40)] + asked[-3:]
report["walks"] = {address: do("lamp walk %d" % (address + 0x123)) for address in asked}
report["hole"] = do("lamp walk 0x7ffffff000 --write")
report["symbol"] = do("lamp walk &lcpus[1]"), int(gdb.parse_and_eval("(unsigned long)&lcpus[1]"))
report["code"] = do("lamp walk ap_entry --write --cpu 2")
report["idt"] = do("lamp idt"), registers(0)
"""


def test_walks_and_idt_in_long_mode(kernel: Path, tmp_path: Path) -> None:
    report = run(kernel, tmp_path, WALK).report
    assert len(report["walks"]) >= 10
    for address, text in report["walks"].items():
        physical, flags = report["pages"][address]
        assert f"is physical {physical + 0x123:#x} in a" in text
        assert ("not executable" in text) == ("X" in flags)
        assert ("read-only" in text) == ("W" not in flags)
        assert ("supervisor" in text.splitlines()[-1]) == ("U" not in flags)
    assert "not present" in report["hole"] and "raises #PF" in report["hole"]
    assert "error code 0x2" in report["hole"]
    text, address = report["symbol"]
    assert f"{address:#x} is physical {address & 0x7FFFFFFF:#x}" in text
    assert "CPU 2" in report["code"] and "CR0.WP=1" in report["code"]
    text, dump = report["idt"]
    assert text.count("64-bit interrupt gate") == 32
    assert "vector_stub_14" in next(line for line in text.splitlines() if "#PF" in line)


MANY = """
report["cpus"] = do("lamp cpus")
report["why"] = do("lamp why")
"""


def test_the_answers_of_many_cpus_do_not_block(kernel: Path, tmp_path: Path) -> None:
    report = run(kernel, tmp_path, MANY, "--cpus", "64").report
    rows = report["cpus"].splitlines()[1:]
    assert len(rows) == 64
    assert sum("waits for SIPI" in row for row in rows) == 63


def test_the_tour(kernel: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(kernel, "--batch", "debug/gdb/tour.gdb"),
        cwd=TREE,
        env=environment(tmp_path),
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    shown = done.stdout.decode()
    assert (done.returncode, done.stderr.decode()) == (0, "")
    for mode in ("in real mode", "in 32-bit compatibility mode", "in 64-bit mode"):
        assert mode in shown
    assert "about to light 34 AP_PG" in shown
    assert "4 of 4 CPUs online" in shown
    assert left_over(tmp_path) == []


STEPS = """
do("disable 2 3")
do("continue")
first = cpu()
report["trail"] = [linear_pc(first)]
for _ in range(3):
    do("stepi")
    if linear_pc(first) == report["trail"][-1]:
        do("stepi")  # QEMU answers a step with the stop of an AP that hit the breakpoint as well
    report["trail"].append(linear_pc(first))
    report["same"] = cpu() == first
report["step"] = fails("step")  # no source line is known for $pc in real mode
report["enabled"] = [point.enabled for point in gdb.breakpoints() if point.number > 0]
report["next"] = []
for _ in range(2):
    do("continue")
    report["next"].append((cpu() != first, linear_pc(cpu())))
"""


def test_steps_in_real_mode_leave_the_breakpoint(kernel: Path, tmp_path: Path) -> None:
    report = run(kernel, tmp_path, STEPS).report
    assert report["trail"] == sorted(set(report["trail"])) and report["trail"][0] == 0x8000
    assert report["same"] and "bounds of current function" in report["step"]
    assert report["enabled"] == [True, False, False]
    assert report["next"] == [[True, 0x8000], [True, 0x8000]]
