# SPDX-License-Identifier: BSD-2-Clause
"""Whole machines: how each guest ends, which CPU it was, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, Optional

import pytest

from debug.evidence import Ending, EventKind, Evidence, IpiKind
from debug.sources.errors import StartError
from debug.sources.qemu_live import Options, QemuMachine

pytestmark = pytest.mark.emulator

GUESTS = Path(__file__).resolve().parent / "guests"
ROOT = Path(__file__).resolve().parents[3]
TRIPLE, KEYBOARD, DEBUG_EXIT, HANG, HALT, PRINT, CF9 = range(1, 8)
EXIT_DEVICE = ("-device", "isa-debug-exit,iobase=0xf4")
SHARED_THREAD = ("-accel", "tcg,thread=single")


def build(folder: Path, source: str, **defines: int) -> Path:
    image = folder / "guest.img"
    words = [f"-D{name}={value}" for name, value in defines.items()]
    subprocess.run(
        ["nasm", "-f", "bin", *words, str(GUESTS / source), "-o", str(image)], check=True
    )
    return image


def command(image: Path, *more: str) -> list[str]:
    drive = f"format=raw,if=floppy,file={image}"
    return ["qemu-system-x86_64", "-drive", drive, *more]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []


def observe(
    image: Path, *more: str, options: Options = Options(timeout=20)
) -> tuple[Evidence, Optional[float]]:
    with QemuMachine(command(image, *more), options) as machine:
        evidence = machine.observe()
        return evidence, machine.collect_seconds


def last_chain(evidence: Evidence) -> list[tuple[Optional[int], int]]:
    kinds = (EventKind.EXCEPTION, EventKind.TRIPLE_FAULT)
    return [(event.cpu, event.vector) for event in evidence.events if event.kind in kinds]


@pytest.mark.parametrize("threads", [(), SHARED_THREAD], ids=["own-threads", "one-thread"])
@pytest.mark.parametrize("ap", [0, 1], ids=["bsp", "ap"])
@pytest.mark.parametrize("long", [0, 1], ids=["protected", "long"])
def test_the_cpu_that_died_is_found(
    tmp_path: Path, long: int, ap: int, threads: tuple[str, ...]
) -> None:
    image = build(tmp_path, "protected.asm", LONG=long, AP=ap)
    evidence, seconds = observe(image, "-smp", "4", *threads)
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert [cpu.index for cpu in evidence.cpus if cpu.shutdown] == [ap]
    assert [cpu.shutdown for cpu in evidence.cpus].count(False) == 3
    first = 14 if long else 6
    second = [13, 13] if not long else [13]
    assert last_chain(evidence) == [(ap, vector) for vector in (first, *second, 8, 13, 13)]
    if long:
        assert evidence.events[-5].cr2 == 0xDEAD0000
    assert evidence.events[-1].registers.rip == evidence.cpus[ap].registers.rip
    assert seconds is not None and seconds < 0.3
    if ap:
        assert [(ipi.kind, ipi.destination, ipi.vector) for ipi in evidence.ipis[-2:]] == [
            (IpiKind.INIT, 1, None),
            (IpiKind.SIPI, 1, 7),
        ]
        assert [reset.cpu for reset in evidence.resets] == [1]


@pytest.mark.parametrize("threads", [(), SHARED_THREAD], ids=["own-threads", "one-thread"])
def test_death_in_real_mode_has_the_final_registers(
    tmp_path: Path, threads: tuple[str, ...]
) -> None:
    image = build(tmp_path, "real.asm", GUEST=TRIPLE)
    evidence, _ = observe(image, "-smp", "2", *threads)
    assert evidence.ending is Ending.TRIPLE_FAULT
    assert [cpu.shutdown for cpu in evidence.cpus] == [True, False]
    assert evidence.events[-1].registers.rip == 0x7C06
    assert evidence.events[-1].registers.idtr == evidence.cpus[0].registers.idtr


@pytest.mark.parametrize("guest", [KEYBOARD, CF9])
def test_a_reset_on_purpose_is_no_triple_fault(tmp_path: Path, guest: int) -> None:
    evidence, _ = observe(build(tmp_path, "real.asm", GUEST=guest))
    assert evidence.ending is Ending.RESET
    assert evidence.cpus and not any(cpu.shutdown for cpu in evidence.cpus)


def test_the_exit_device_gives_the_exit_code(tmp_path: Path) -> None:
    evidence, _ = observe(build(tmp_path, "real.asm", GUEST=DEBUG_EXIT), *EXIT_DEVICE)
    assert (evidence.ending, evidence.exit_code) == (Ending.EXITED, 0x15 << 1 | 1)
    assert any("gone" in limit for limit in evidence.limits)


def test_a_halt_without_interrupts_ends_early(tmp_path: Path) -> None:
    started = time.monotonic()
    evidence, _ = observe(
        build(tmp_path, "real.asm", GUEST=HALT), options=Options(timeout=60, idle=0.5)
    )
    assert time.monotonic() - started < 30
    assert evidence.ending is Ending.STOPPED and evidence.cpus[0].halted
    assert evidence.cpus[0].moved is False
    assert any("no CPU changed a register" in message for message in evidence.messages)


def test_a_spinning_guest_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    image = build(tmp_path, "real.asm", GUEST=HANG)
    evidence, _ = observe(image, options=Options(timeout=0.5, idle=None))
    assert evidence.ending is Ending.STOPPED and not evidence.cpus[0].halted
    assert any("0.5 s are over" in message for message in evidence.messages)


def test_until_and_consoles(tmp_path: Path) -> None:
    image = build(tmp_path, "real.asm", GUEST=PRINT)
    pieces: list[bytes] = []
    options = Options(timeout=20, until="lamp .n.*!\n", on_output=pieces.append)
    with QemuMachine(command(image), options) as machine:
        evidence = machine.observe()
        assert machine.streams["e9"] == b"lamp on\x1b[31m!\n"
    assert evidence.ending is Ending.UNTIL
    assert evidence.console.startswith("lamp on!")
    assert b"".join(pieces).startswith(b"lamp on\x1b[31m!\n")
    assert evidence.cpus[0].halted is False


def test_the_users_own_serial_line_on_stdout_is_read_too(tmp_path: Path) -> None:
    image = build(tmp_path, "real.asm", GUEST=PRINT)
    with QemuMachine(
        command(image, "-nographic"), Options(timeout=20, until="lamp on.*!")
    ) as machine:
        machine.observe()
        assert b"lamp on" in machine.streams["stdout"]


def test_memory_is_read_while_paused_and_kept_afterwards(tmp_path: Path) -> None:
    image = build(tmp_path, "real.asm", GUEST=TRIPLE)
    with QemuMachine(command(image, "-m", "64"), Options(timeout=20)) as machine:
        evidence = machine.observe()
        assert evidence.memory.read(0x7C00, 512) == image.read_bytes()
        assert evidence.memory.read(0xFEE00000, 4) is None, "a device was read"
        assert evidence.memory.read((64 << 20) - 2, 4) is None
        assert evidence.memory.read(1 << 60, 1) is None and evidence.memory.read(-1, 1) is None
        assert evidence.memory.read(0x7BFF, 2) is not None
        whole = evidence.memory.read(0, 0xA0000)
        assert whole is not None and whole[0x7C00:0x7E00] == image.read_bytes()
    assert evidence.memory.read(0x7C00, 512) == image.read_bytes()
    assert evidence.memory.read(0x2000000, 16) is None


def test_a_bad_option_is_the_emulators_end_with_its_words(tmp_path: Path) -> None:
    evidence, _ = observe(build(tmp_path, "real.asm", GUEST=HALT), "-no-such-option")
    assert evidence.ending is Ending.EMULATOR_DIED and evidence.exit_code == 1
    assert any("no-such-option" in message for message in evidence.messages)


def test_an_emulator_that_is_not_there() -> None:
    with pytest.raises(StartError, match="not installed"):
        with QemuMachine(["qemu-system-nothing"]):
            pass


def test_a_program_that_is_no_qemu_is_an_emulator_that_died() -> None:
    with QemuMachine(["true"], Options(timeout=5)) as machine:
        assert machine.observe().ending is Ending.EMULATOR_DIED


def test_the_log_is_kept_where_asked(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    image = build(tmp_path, "real.asm", GUEST=TRIPLE)
    observe(image, options=Options(timeout=20, keep_dir=keep))
    assert any(b"Triple fault" in path.read_bytes() for path in keep.glob("*/log.*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_qemu_dies_with_the_observer(tmp_path: Path, number: signal.Signals) -> None:
    image = build(tmp_path, "real.asm", GUEST=HANG)
    code = (
        "import sys\n"
        "from debug.sources.qemu_live import Options, QemuMachine\n"
        "with QemuMachine(sys.argv[1:], Options(timeout=60, idle=None)) as m:\n"
        "    print(m._process._child.pid, flush=True)\n"
        "    m.observe()\n"
    )
    scratch = tmp_path / "theirs"
    scratch.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", code, *command(image)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert child.stdout is not None
    with child.stdout:
        pid = int(child.stdout.readline())
    os.kill(child.pid, number)
    child.wait(10)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]:
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{pid}").exists(), "QEMU outlived its observer"
    if number is not signal.SIGKILL:
        assert list(scratch.iterdir()) == []
