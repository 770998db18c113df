# SPDX-License-Identifier: BSD-2-Clause
"""Bochs, run: each guest of tests/recorded/bochs/guest.asm must end as what it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from debug.bochs.console import Console, Settings
from debug.bochs.script import Breakpoint
from debug.evidence import Ending, EventKind, Evidence
from debug.report.diagnosis import diagnose
from debug.sources.bochs_command_line import plan
from debug.sources.bochs_live import BochsMachine, Options
from debug.sources.bochs_process import BochsProcess
from debug.sources.errors import CommandLineError, StartError
from debug.sources.qemu_ending import not_started

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "tests" / "recorded" / "bochs" / "guest.asm"
AP_PAGE = 0x8000

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(not shutil.which("bochs"), reason="bochs is not installed"),
]


def command(directory: Path, case: str, cpus: int = 1) -> list[str]:
    image = directory / f"{case}.img"
    subprocess.run(["nasm", "-f", "bin", f"-DCASE_{case}", "-o", image, SOURCE], check=True)
    return [
        *("bochs", "-qf", str(ROOT / "bochsrc")),
        "ata0-master: type=none",
        f'floppya: 1_44="{image}", status=inserted',
        "boot: floppy",
        f"cpu: count={cpus}, ips=4000000",
        f"com1: enabled=1, mode=file, dev={directory}/serial",
    ]


def observe(directory: Path, case: str, cpus: int = 1, options: Options = Options()) -> Evidence:
    with BochsMachine(command(directory, case, cpus), options) as machine:
        return machine.observe()


def children() -> set[str]:
    """Bochs processes of this test run."""
    mine = str(os.getpid())
    found = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", mine], capture_output=True)
    return {line for line in found.stdout.decode().splitlines() if "bochs" in line}


def test_a_death_on_the_bsp(tmp_path: Path) -> None:
    with BochsMachine(command(tmp_path, "long64"), Options(timeout=20)) as machine:
        evidence = machine.observe()
        assert evidence.ending is Ending.TRIPLE_FAULT
        assert evidence.version == "2.7" or evidence.version
        (cpu,) = evidence.cpus
        assert cpu.shutdown and cpu.apic_id == 0 and cpu.executed
        assert cpu.registers.idtr is not None and cpu.registers.idtr.limit == 0
        assert cpu.registers.segments["ss"].flags & 0x9F00 == 0x9300
        assert [(e.kind, e.vector, e.error_code) for e in evidence.events] == [
            (EventKind.EXCEPTION, 14, 2),
            (EventKind.EXCEPTION, 13, 0x73),
            (EventKind.EXCEPTION, 8, 0),
            (EventKind.TRIPLE_FAULT, 13, 0x43),
        ]
        assert evidence.events[0].cr2 == 0xFFFFFFFF7FFFFFF8
        # The page tables can be walked: PML4[511] is what is missing.
        cr3 = cpu.registers.control["cr3"]
        accessed = 1 << 5
        assert evidence.memory.read(cr3, 8) == (cr3 + 0x1003 | accessed).to_bytes(8, "little")
        assert evidence.memory.read(cr3 + 511 * 8, 8) == bytes(8)
        assert evidence.memory.read(1 << 40, 8) is None
        assert evidence.console == "hello from port e9\n"
        assert machine.collect_seconds is not None and machine.collect_seconds < 0.5
    # What was read stays when Bochs has gone; the rest is unreadable, and says so.
    assert evidence.memory.read(cr3, 8) is not None
    assert evidence.memory.read(0x400000, 8) is None


def test_a_death_on_an_ap_in_32_bits(tmp_path: Path) -> None:
    evidence = observe(tmp_path, "ap32", 2)
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert [cpu.shutdown for cpu in evidence.cpus] == [False, True]
    assert evidence.events[0].vector == 6 and evidence.events[0].cpu == 1
    ours = [ipi for ipi in evidence.ipis if not ipi.by_firmware]
    assert [(i.kind.value, i.source, i.destination, i.vector) for i in ours] == [
        ("INIT", 0, 1, None),
        ("SIPI", 0, 1, AP_PAGE >> 12),
    ]


def test_large_and_small_reads_agree(tmp_path: Path) -> None:
    with BochsMachine(command(tmp_path, "ap64", 3), Options()) as machine:
        evidence = machine.observe()
        large = evidence.memory.read(0, 1 << 20)  # through CPU 2, which has paging off
        assert large is not None
        for start in (0x1000, 0x7C00, 0x8000, 0xF0000):
            assert machine.read_memory(start, 0x200) == large[start : start + 0x200]


def test_real_mode(tmp_path: Path) -> None:
    evidence = observe(tmp_path, "real16")
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert evidence.events[0].kind is EventKind.SOFTWARE_INTERRUPT
    assert evidence.events[-1].registers.rip == evidence.cpus[0].registers.rip


def test_bochs_says_why(tmp_path: Path) -> None:
    evidence = observe(tmp_path, "gp")
    assert "without enabling CR4.PAE" in evidence.events[0].reason


def test_a_halt_ends_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    evidence = observe(tmp_path, "halt", options=Options(timeout=60, idle=30))
    assert evidence.ending is Ending.STOPPED
    assert time.monotonic() - began < 15
    assert evidence.cpus[0].halted and evidence.cpus[0].moved is False
    assert any("interrupts off" in message for message in evidence.messages)


def test_a_spin_is_called_stuck(tmp_path: Path) -> None:
    evidence = observe(tmp_path, "spin", options=Options(timeout=60, idle=0.5))
    assert evidence.ending is Ending.STOPPED
    assert not evidence.cpus[0].halted and evidence.cpus[0].moved is False


def test_a_stop_that_comes_before_the_start_is_not_lost(tmp_path: Path) -> None:
    """A busy host: the signal is there before Bochs has read `c`, which forgets it."""
    settings = plan(command(tmp_path, "spin"), (ROOT / "bochsrc").read_text(), str(tmp_path))
    bochs = BochsProcess(settings.argv, settings.environment, lambda text: None)
    try:
        assert bochs.wait_stop(20)
        os.kill(bochs.pid, signal.SIGSTOP)
        bochs.go()
        threading.Timer(0.2, os.kill, (bochs.pid, signal.SIGCONT)).start()
        assert bochs.interrupt(10)
    finally:
        bochs.end()


def test_a_reset_is_no_death(tmp_path: Path) -> None:
    evidence = observe(tmp_path, "reset")
    assert evidence.ending is Ending.RESET
    assert any("CPU reset register" in message for message in evidence.messages)
    assert not any(cpu.shutdown for cpu in evidence.cpus)


def test_the_shutdown_port(tmp_path: Path) -> None:
    evidence = observe(tmp_path, "exit")
    assert evidence.ending is Ending.EXITED
    assert evidence.console == "hello from port e9\n"
    assert evidence.cpus[0].registers.rip is not None
    assert any("memory" in limit for limit in evidence.limits)


def test_a_flood_can_be_stopped(tmp_path: Path) -> None:
    """Both consoles at full speed; every stop must succeed, though Bochs is writing its log."""
    for _ in range(3):
        evidence = observe(tmp_path, "talk", options=Options(timeout=0.8, idle=None))
        assert evidence.ending is Ending.STOPPED
        assert evidence.cpus and evidence.cpus[0].registers.rip


def test_until(tmp_path: Path) -> None:
    heard: list[bytes] = []
    options = Options(timeout=20, until=r"hello from port e9\s+hello", on_output=heard.append)
    evidence = observe(tmp_path, "talk", options=options)
    assert evidence.ending is Ending.UNTIL
    assert b"hello" in b"".join(heard)


def test_nothing_to_boot(tmp_path: Path) -> None:
    argv = command(tmp_path, "spin")
    argv[4] = "floppya: 1_44=gone.img, status=inserted"
    with BochsMachine(argv, Options(timeout=20)) as machine:
        evidence = machine.observe()
        diagnosis = diagnose(evidence)
    assert evidence.ending is Ending.EMULATOR_DIED
    assert any("nothing to boot" in message for message in evidence.messages)
    assert any("gone.img" in note for note in diagnosis.explanation.notes)
    assert [cause.row.id for cause in diagnosis.causes] == ["kernel-not-reached"]
    assert not diagnosis.explanation.chain


@pytest.mark.parametrize(
    "line", ("romimage: file=gone.bin", "ata0-master: type=disk, path=gone.bin, mode=flat")
)
def test_what_bochs_can_not_put_together_is_no_machine(tmp_path: Path, line: str) -> None:
    with BochsMachine([*command(tmp_path, "halt"), line], Options(timeout=20)) as machine:
        evidence = machine.observe()
    assert not_started(evidence)
    assert any("gone.bin" in message for message in evidence.messages)


def test_a_kernel_that_rests_while_the_bios_counts_ticks_is_healthy(tmp_path: Path) -> None:
    source = tmp_path / "rest.asm"
    source.write_text("org 0x7c00\nsti\nrest: hlt\njmp rest\ntimes 510-($-$$) db 0\ndw 0xaa55\n")
    argv = command(tmp_path, "halt")
    image = tmp_path / "halt.img"
    subprocess.run(["nasm", "-f", "bin", "-o", image, source], check=True)
    with image.open("r+b") as file:
        file.truncate(1440 << 10)
    with BochsMachine(argv, Options(timeout=20)) as machine:
        diagnosis = diagnose(machine.observe())
    assert diagnosis.explanation.headline == "healthy: 1 of 1 CPUs online"


def test_a_setting_that_bochs_refuses(tmp_path: Path) -> None:
    with BochsMachine([*command(tmp_path, "spin"), "nonsense: 1"], Options(idle=0.5)) as machine:
        evidence = machine.observe()
    assert any("nonsense" in message for message in evidence.messages)


def test_a_breakpoint_of_the_users_own_is_no_cpu(tmp_path: Path) -> None:
    (tmp_path / "commands").write_text("b 0x7c00\nc\n")
    argv = [*command(tmp_path, "halt"), "-rc", str(tmp_path / "commands")]
    with BochsMachine(argv, Options(timeout=20)) as machine:
        evidence = machine.observe()
    assert [cpu.index for cpu in evidence.cpus] == [0]


def test_what_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="not installed"):
        BochsMachine(["bochs-that-is-not-there"]).__enter__()
    with pytest.raises(CommandLineError, match="no-such-file"):
        BochsMachine(["bochs", "-qf", str(tmp_path / "no-such-file")]).__enter__()
    with pytest.raises(CommandLineError, match="until"):
        BochsMachine(command(tmp_path, "spin"), Options(until="(")).__enter__()


def test_the_same_ticks_every_time(tmp_path: Path) -> None:
    ticks = {observe(tmp_path, "ap64", 2).events[-1].tick for _ in range(3)}
    assert len(ticks) == 1


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)

    def fail(data: bytes) -> None:
        raise KeyboardInterrupt

    for options in (Options(), Options(on_output=fail)):
        try:
            observe(tmp_path, "exit", options=options)
        except KeyboardInterrupt:
            pass
        assert not list(scratch.iterdir())
        assert not children()


def test_bochs_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys; from debug.sources.bochs_live import BochsMachine, Options\n"
        "machine = BochsMachine(sys.argv[1:], Options(timeout=60, idle=None,"
        " on_output=lambda data: print(machine._process._child.pid, flush=True)))\n"
        "with machine: machine.observe()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *command(tmp_path, "spin")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and ") Z " in stat.read_text():
            break
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_keep_dir(tmp_path: Path) -> None:
    observe(tmp_path, "talk", options=Options(timeout=1, keep_dir=tmp_path / "kept"))
    assert b"Booting from" in (tmp_path / "kept" / "bochs.log").read_bytes()
    assert b"h" in (tmp_path / "serial").read_bytes()


def test_com1_without_its_directory(tmp_path: Path) -> None:
    argv = [*command(tmp_path, "talk"), "com1: enabled=1, mode=file, dev=no/such/directory/file"]
    with BochsMachine(argv, Options(timeout=0.8, idle=None)) as machine:
        machine.observe()
        assert b"h" in machine.streams["com1"]


# -- make bochs


def test_stops_in_words(tmp_path: Path) -> None:
    """The trampoline's second byte, each mode switch of the AP, and the diagnosis at its death."""
    written: list[str] = []
    explained: list[Evidence] = []
    settings = Settings(
        points=(Breakpoint("the kernel's entry", 0x7C00, entry=True, behind=0x7C01),
                Breakpoint("the trampoline", AP_PAGE + 1, "one byte in", behind=AP_PAGE + 2)),
        headless=True,
        timeout=20,
    )  # fmt: skip
    console = Console(
        command(tmp_path, "ap64", 2),
        settings,
        explain=lambda evidence, streams: explained.append(evidence),
        write=written.append,
    )
    evidence = console.run()
    text = "".join(written)
    assert evidence.ending is Ending.TRIPLE_FAULT and explained == [evidence]
    seen = [
        line.strip()
        for line in text.splitlines()
        if line.startswith(("CPU", "  reached", "  mode"))
    ]
    assert seen == [
        "CPU 0 (APIC ID 0) in real mode (PE=0 PG=0)",
        "reached the kernel's entry",
        "CPU 0 (APIC ID 0) in 16-bit protected mode (PE=1 PG=0 LMA=0 CS.D=0)",
        "mode switch: entered protected mode",
        "CPU 1 (APIC ID 1) in real mode (PE=0 PG=0)",
        "reached the trampoline, one byte in",
        "CPU 1 (APIC ID 1) in 16-bit protected mode (PE=1 PG=0 LMA=0 CS.D=0)",
        "mode switch: entered protected mode",
        "CPU 1 (APIC ID 1) in 32-bit compatibility mode (PE=1 PG=1 LMA=1 CS.L=0 CS.D=1)",
        "mode switch: entered compatibility mode",
        "CPU 1 (APIC ID 1) in 64-bit mode (PE=1 PG=1 LMA=1 CS.L=1 CS.D=0)",
        "mode switch: entered long mode",
    ]
    assert "hello from port e9\n" in text


STARTS = (0x7C02, 0x7C04, 0x7C06, 0x7C08, 0x7C0A, 0x7C0D)  # of the guest's instructions


@pytest.mark.parametrize("address, behind", zip(STARTS, STARTS[1:]))
def test_no_stop_is_passed_over(tmp_path: Path, address: int, behind: int) -> None:
    """One of these five begins Bochs's round of CPU 0, and its breakpoint alone is never met."""
    written: list[str] = []
    settings = Settings(points=(Breakpoint("here", address, behind=behind),), headless=True)
    argv = command(tmp_path, "halt", 2)
    Console(argv, settings, explain=lambda *_: None, write=written.append).run()
    assert "".join(written).count("reached here") == 1


def test_a_person_at_the_prompt(tmp_path: Path) -> None:
    written: list[str] = []
    asked: list[str] = []
    lines = iter(["creg", "why", "s", "", "page 0x7c00", "c", "c", "c", "sreg", "why", "c", "q"])

    def read(prompt: str) -> str | None:
        asked.append(prompt)
        return next(lines, None)

    settings = Settings(points=(Breakpoint("the kernel's entry", 0x7C00, entry=True),))
    console = Console(
        command(tmp_path, "long64"),
        settings,
        explain=lambda evidence, streams: written.append("EXPLAINED\n"),
        write=written.append,
        read=read,
    )
    evidence = console.run()
    text = "".join(written)
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert "CR0=0x" in text and "CR3=0x" in text
    assert "the machine is on its way" in text
    assert text.count("EXPLAINED") == 2  # by itself, and when asked
    assert "idtr:base=0x0000000000000000, limit=0x0" in text
    assert "the machine has ended" in text
    assert asked[0] == "bochs> " and asked[-1] == "bochs (ended)> "


def test_without_a_configuration_it_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bochs would show its menu to nobody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CommandLineError, match="no configuration file: expected -f FILE"):
        BochsMachine(["bochs", "-q"]).__enter__()
    with pytest.raises(CommandLineError, match="-f, at the end .* names no file"):
        BochsMachine(["bochs", "-q", "-f"]).__enter__()


def test_the_configuration_that_bochs_finds_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its COM1 stays the user's."""
    argv = command(tmp_path, "talk")
    monkeypatch.chdir(tmp_path)
    ours = (ROOT / "bochsrc").read_text(encoding="utf-8")
    lines = [ours, *argv[3:], "com1: enabled=1, mode=file, dev=mine.txt"]
    (tmp_path / "bochsrc").write_text("\n".join(lines) + "\n", encoding="ascii")
    with BochsMachine(["bochs", "-q"], Options(timeout=20, until="hello")) as machine:
        assert machine.observe().ending is Ending.UNTIL
    assert (tmp_path / "mine.txt").exists()


def test_a_configuration_that_bochs_refuses_starts_no_machine(tmp_path: Path) -> None:
    file = tmp_path / "refused"
    file.write_text("nonsense: 1\n", encoding="ascii")
    with BochsMachine(["bochs", "-q", "-f", str(file)], Options(timeout=20)) as machine:
        evidence = machine.observe()
    assert not_started(evidence) and any("nonsense" in said for said in evidence.messages)
