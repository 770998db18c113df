# SPDX-License-Identifier: BSD-2-Clause
"""The debugger's answers and the command line: pure parts of the live Bochs source."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debug.bochs.narrator import describe
from debug.bochs.script import Breakpoint, breakpoints, commands, script
from debug.bochs.stop_text import Reason, parse_stop
from debug.evidence import Cpu, NoSymbols, Registers, Segment, StageEvent
from debug.sources.bochs_command_line import cpu_count, plan
from debug.sources.bochs_ipi import decode_icr
from debug.sources.bochs_memory import parse_words
from debug.sources.bochs_process import _stop_begins
from debug.sources.bochs_readout import answer_of
from debug.sources.bochs_state import build_cpu, parse_shown, stuck_for_good
from debug.sources.errors import CommandLineError

SHOWN = """show "cpu1.RIP"
show param name: <cpu1.RIP>
RIP = 0x7ce1
<bochs:4> show "cpu1.activity_state"
show param name: <cpu1.activity_state>
activity_state = 0x00000002
<bochs:5> show "cpu1.EFLAGS"
show param name: <cpu1.EFLAGS>
EFLAGS = 0x10006
<bochs:6> show "cpu1.CR0"
show param name: <cpu1.CR0>
CR0 = 0x80000011
<bochs:7> show "cpu1.CS"
show param name: <cpu1.CS>
CS = {
  selector = 0x8
  valid = 0x00000001
  p = true
  dpl = 0x00
  segment = true
  type = 0x0b
  base = 0x0
  limit_scaled = 0x00000000
  granularity = false
  d_b = false
  l = true
  avl = false
}
<bochs:8> show "cpu1.GDTR"
show param name: <cpu1.GDTR>
GDTR = {
  base = 0x7d10
  limit = 0x001f
}
<bochs:9> show "cpu1.MSR"
show param name: <cpu1.MSR>
MSR = {
  apicbase = 0xfee00800
  EFER = 0x00000500
  kernelgsbase = 0x0
}
<bochs:10> show "cpu1.local_apic"
show param name: <cpu1.local_apic>
local_apic = {
  apic_id = 0x00000001
  mode = 0x00000002
  spurious_vector = 0xff
  software_enabled = true
  focus_disable = false
  isr0 = 0x00000000
  isr1 = 0x00000002
  icr_hi = 0x02000000
  icr_lo = 0x00004608
  lvt0 = 0x00010000
}
<bochs:11> show "cpu9.RIP"
show param name: <cpu9.RIP>
can't find param <cpu9.RIP> in global or default CPU tree
"""


def test_a_cpu_from_the_parameter_tree() -> None:
    trees = parse_shown(SHOWN)
    cpu = build_cpu(1, trees[1], None)
    assert cpu.shutdown and not cpu.halted and cpu.apic_id == 1
    assert cpu.registers.rip == 0x7CE1
    assert cpu.registers.segments["cs"] == Segment(8, 0, 0, 0x209B00)
    assert cpu.registers.gdtr is not None and cpu.registers.gdtr.limit == 0x1F
    assert cpu.registers.idtr is None  # it was not shown
    assert cpu.registers.get("efer") == 0x500
    assert cpu.apic is not None
    assert cpu.apic.icr == 0x02000000_00004608 and cpu.apic.svr == 0x1FF
    assert cpu.apic.isr == (33,) and cpu.apic.enabled and not cpu.apic.x2apic
    assert cpu.apic.lvt == {"timer": 0x10000}
    assert trees[9] == {}


def test_which_cpus_can_go_on() -> None:
    assert stuck_for_good({"activity_state": 1, "EFLAGS": 0x2})
    assert not stuck_for_good({"activity_state": 1, "EFLAGS": 0x202})
    assert not stuck_for_good({"activity_state": 0, "EFLAGS": 0x2})
    assert stuck_for_good({"activity_state": 3, "EFLAGS": 0x202})
    assert not stuck_for_good({})


def test_whether_a_cpu_moved() -> None:
    tree = parse_shown(SHOWN)[1]
    assert build_cpu(1, tree, dict(tree)).moved is False
    assert build_cpu(1, tree, {**tree, "RIP": 0x7CE0}).moved is True
    assert build_cpu(1, tree, None).moved is None


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_any_answer(text: str) -> None:
    for index, tree in parse_shown("show param name: <cpu0.CS>\n" + text).items():
        build_cpu(index, tree, None)
    parse_stop(text)
    parse_words(text, 0, 8)


def test_memory_words() -> None:
    # Bochs leaves the upper half of a zero word out.
    rows = (
        "[bochs]:\n0x0000000000007c00 <bogus+       0>:\t0xc08ed88ec031fcfa\t0x00000000\n"
        "0x0000000000007c10 <bogus+      16>:\t0x0000000000000001\t0x00000000\n"
    )
    assert parse_words(rows, 0x7C00, 9) == bytes.fromhex("fafc31c08ed88ec000")
    assert parse_words(rows, 0x7C00, 33) is None
    assert parse_words(rows, 0x7C08, 8) is None


def test_the_debuggers_words_are_no_guest_text() -> None:
    stop = (
        b"Next at t=5\n(0) [0x0000fffffff0] f000:fff0 (unk. ctxt): hlt ; f4\n"
        b"(1) [0x0000fffffff0] f000:fff0 (unk. ctxt): hlt ; f4\n"
    )
    for guest in (b"", b"hello\n", b"no line end", b"Next at t=1\nI said that\n", b"(0) Me\nand\n"):
        text = guest + stop
        assert text[: _stop_begins(text)] == guest
    warned = b"(1) Caught mode switch breakpoint\nNext at t=5\nWARNING: Offset 1 is out of\n(0) [0x1] x\n"
    assert _stop_begins(b"hel" + warned) == 3
    ended = b"(0).[12] [0x7c25] 0000:7c25 (unk. ctxt): out dx, al ; ee\n"
    assert _stop_begins(b"bye\n" + ended + ended.replace(b"(0)", b"(1)")) == 4
    assert _stop_begins(b"just text\n") == len(b"just text\n")


def test_answers_without_echo_and_prompt() -> None:
    assert answer_of("modebp\nmode switch break enabled\n<bochs:6> ? 0x1\n", "modebp") == (
        "mode switch break enabled"
    )


def test_icr() -> None:
    sipi = decode_icr(0x4608, 3, 0, 7)
    assert sipi is not None and (sipi.kind.value, sipi.destination, sipi.vector) == ("SIPI", 3, 8)
    init = decode_icr(0xC4500, 0, 0, 7)
    assert init is not None and init.shorthand == "all-but-self" and init.destination is None
    deassert = decode_icr(0x8500, 1, 0, 7)
    assert deassert is not None and deassert.kind.value == "INIT de-assert"


def test_our_settings_come_last_and_one_per_cpu() -> None:
    launch = plan(["bochs", "-f", "rc", "cpu: count=3"], "cpu: count=2\n", "/tmp/d")
    assert launch.argv[:5] == ("bochs", "-q", "-f", "rc", "cpu: count=3")
    assert launch.cpus == 3
    assert "debug: cpu2=report, apic2=report" in launch.argv
    assert not any("cpu3=" in word for word in launch.argv)
    assert launch.environment["SDL_VIDEODRIVER"] == "dummy"
    assert launch.com1_file == "/tmp/d/com1"


def test_what_the_user_set_is_respected() -> None:
    launch = plan(
        ["bochs", "-qf", "rc", "display_library: x"], "  com1: enabled=1, mode=raw", "/tmp/d"
    )
    assert launch.com1_file is None
    assert not any(word.startswith(("com1:", "display_library: sdl2")) for word in launch.argv)
    assert launch.argv.count("-q") == 0
    commented = plan(["bochs"], "# com1: enabled=1", "/tmp/d")
    assert commented.com1_file == "/tmp/d/com1" and not commented.com1_is_users
    assert plan(["bochs"], "com1: enabled=1, mode=null", "/tmp/d").com1_file == "/tmp/d/com1"
    theirs = plan(["bochs"], 'com1: enabled=1, mode=file, dev="a b.txt"', "/tmp/d")
    assert theirs.com1_file == "a b.txt" and theirs.com1_is_users


@pytest.mark.parametrize(
    "line, count",
    [("cpu: count=4", 4), ("cpu: model=x, count=2:2:2, ips=1", 8), ("#cpu: count=4", 1), ("", 1)],
)
def test_cpu_count(line: str, count: int) -> None:
    assert cpu_count([line]) == count


@pytest.mark.parametrize(
    "argv, directory",
    [([], "/tmp/d"), (["bochs", "-r", "x"], "/tmp/d"), (["bochs"], "/tmp/a,b"), (["bochs"], '/"')],
)
def test_what_cannot_be_observed(argv: list[str], directory: str) -> None:
    with pytest.raises(CommandLineError):
        plan(argv, "", directory)


def test_a_port_that_waits_for_a_caller_is_refused() -> None:
    with pytest.raises(CommandLineError, match="com2: mode=socket-server holds the machine back"):
        plan(["bochs"], "com2: enabled=1, mode=socket-server, dev=localhost:8888\n", "/tmp/d")


STOP = """Next at t=73149505
(0) [0x00000010d81b] 0008:ffffffff8010d81b (unk. ctxt): jz .+17  (0xffffffff8010d82e) ; 7411
(1) Caught mode switch breakpoint switching to 'protected mode'
(1) [0x00000000811a] 0800:000000000000011a (unk. ctxt): mov al, 0x13              ; b013
"""


def test_a_stop() -> None:
    stop = parse_stop(STOP)
    assert stop.tick == 73149505
    assert stop.reasons == (Reason(1, switched_to="protected mode"),)
    assert stop.places[1].instruction == "mov al, 0x13" and stop.places[1].data == b"\xb0\x13"
    assert stop.places[0].offset == 0xFFFFFFFF8010D81B
    hit = parse_stop("(3) Breakpoint 2, 0xffffffff8010c830 in ?? ()\n")
    assert hit.reasons == (Reason(3, breakpoint=2),)


class _Names(NoSymbols):
    def address(self, name: str) -> int | None:
        return {"lcpu_start64": 0x85A0, "ap_entry": 0xFFFFFFFF8010C830}.get(name)


def test_the_script_stops_one_byte_into_the_trampoline() -> None:
    points = breakpoints(_Names(), 0x9000, 0x100040)
    assert commands(points) == ["lb 0x100040", "lb 0x9001", "lb 0x85a0", "lb 0xffffffff8010c830"]
    assert script(points).splitlines()[-1] == "modebp"
    assert len(breakpoints(NoSymbols())) == 1


def test_each_stop_has_a_second_breakpoint_behind_it() -> None:
    points = (Breakpoint("one", 0x10, behind=0x12), Breakpoint("two", 0x20))
    assert commands(points) == ["lb 0x10", "lb 0x20", "lb 0x12"]
    many = tuple(Breakpoint(str(n), n, behind=n + 1) for n in range(12))
    assert len(commands(many)) == 16  # all that Bochs has


def test_a_stop_in_words() -> None:
    registers = Registers(
        rip=1,
        control={"cr0": 0x10, "efer": 0},
        segments={"cs": Segment(0x800, 0x8000, 0xFFFF, 0x9B00)},
    )
    cpu = Cpu(2, registers, apic_id=6)
    points = (Breakpoint("the trampoline", 0x8001, "one byte in"),)
    stages = [StageEvent(6, 0x10), StageEvent(0, 0xB0)]
    text = describe(Reason(2, breakpoint=1), cpu, None, points, NoSymbols(), stages)
    assert text.splitlines() == [
        "CPU 2 (APIC ID 6) in real mode (PE=0 PG=0)",
        "  at 0800:0001 = 0x8001",
        "  reached the trampoline, one byte in",
        "  stages: 10",
    ]
