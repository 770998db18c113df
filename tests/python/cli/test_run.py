# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost run` on machines that nobody here built: what it takes, refuses, says and leaves."""

from __future__ import annotations

import json
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from debug.cli.exit_codes import ExitCode
from debug.explain.doomed import DERIVED
from debug.stages.checksum import encode
from tests.python.cli.machines import EXIT_DEVICE, LIMIT, Scene, boot_sector, first_cause, qemu
from tests.tree import TREE

pytestmark = pytest.mark.emulator

TRIPLE, KEYBOARD, _, HANG, HALT = range(1, 6)  # real.asm
ECHO, FLOOD, CLAIM = 1, 2, 3  # serial.asm
ENOUGH = 3 << 20  # bytes that a flood must have written


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def again(report: dict[str, object]) -> bool:
    """Whether the report says that the machine was run a second time."""
    notes = report["notes"]
    assert isinstance(notes, list)
    return any("second run" in note for note in notes)


@pytest.mark.parametrize("ap", [0, 1], ids=["bsp", "ap"])
@pytest.mark.parametrize("long", [0, 1], ids=["protected", "long"])
def test_a_death_is_derived_from_the_state_alone(scene: Scene, long: int, ap: int) -> None:
    image = boot_sector(scene.folder, "protected.asm", f"LONG={long}", f"AP={ap}", "BEYOND=1")
    report = scene.report("--", *qemu(image, "-smp", "4"))
    assert (report["status"], report["culprit"]) == ("triple-fault", ap)
    vectors = [step["vector"] for step in report["chain"]]
    assert (vectors[0], vectors[-1]) == (14 if long else 13, 8)
    if not long:  # there the state tells the cause for certain
        assert DERIVED in report["notes"] and not again(report)
    once = scene.report("--once", "--", *qemu(image, "-smp", "4"))
    assert once["chain"][0]["explanation"] == report["chain"][0]["explanation"]
    logged = scene.report("--log", "--", *qemu(image, "-smp", "4"))
    assert [step["explanation"] for step in logged["chain"]] == [
        step["explanation"] for step in report["chain"]
    ]
    assert first_cause(report) == first_cause(logged)


def test_where_the_state_is_not_enough_a_second_run_is_and_that_is_said(scene: Scene) -> None:
    image = boot_sector(scene.folder, "real.asm", f"GUEST={KEYBOARD}")
    report = scene.report("--", *qemu(image))
    assert report["status"] == "reset" and again(report)
    once = scene.report("--once", "--", *qemu(image))
    assert (once["status"], once["ending"]) == ("unknown", "restarted") and not again(once)
    assert not again(scene.report("--log", "--", *qemu(image)))


@pytest.mark.parametrize(
    "words",
    [
        ["-no-reboot"],
        ["-no-shutdown", "-no-reboot"],
        ["-action", "reboot=reset"],
        ["-d", "int", "-D", "mine.log"],
        ["-d", "int"],
        ["-monitor", "none", "-serial", "none"],
        ["-chardev", "stdio,id=c", "-serial", "chardev:c"],
        ["-qmp", "unix:qmp,server=on,wait=off", "-gdb", "unix:gdb,server=on,wait=off"],
        ["-nodefaults"],
        ["-nographic"],
    ],
    ids=" ".join,
)
def test_the_users_own_options_are_kept_and_the_verdict_is_the_same(
    scene: Scene, words: list[str]
) -> None:
    image = boot_sector(scene.folder, "protected.asm", "LONG=1", "AP=0")
    report = scene.report("--", *qemu(image, *words))
    assert (report["status"], report["culprit"]) == ("triple-fault", 0)
    if "-D" in words:
        assert b"Triple fault" in (scene.folder / "mine.log").read_bytes()


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["qemu-system-x86_64", "-daemonize"], 16, "-daemonize takes the machine out"),
        (["qemu-system-x86_64", "-preconfig"], 16, "-preconfig holds the machine"),
        (["qemu-system-aarch64"], 2, "is no x86 machine"),
        (["make", "run"], 2, "make is neither QEMU"),
        (["./run.sh"], 2, "a wrapper would not pass on"),
        (["sudo", "qemu-system-x86_64"], 2, "sudo lamppost run -- qemu-system-x86_64"),
        (["env", "A=b c", "/x/bochs", "-q"], 2, "in front: env 'A=b c' lamppost run -- /x/bochs"),
        (["timeout", "9", "qemu-system-x86_64"], 2, "run --timeout SECONDS"),
        (["qemu-system-x86_64", "-runas", "nobody"], 16, "-runas takes the right"),
        (["true"], 2, "true is neither QEMU"),
        ([], 2, "no emulator to run"),
        (["./qemu-system-x86_64"], 3, "is not there"),
        (["./bochs"], 3, "is not there"),
        (["bochs-9.9"], 3, "is not installed"),
        (["qemu-system-x86_64", "-kernel", "no-such-file"], 16, "no-such-file"),
        (["qemu-system-x86_64", "-hda", "no-such-file"], 16, "no-such-file"),
        (["qemu-system-x86_64", "-no-such-option"], 16, "no-such-option"),
        (["qemu-system-x86_64", "--version"], 16, "did not start a machine"),
        (["bochs", "-q", "-f", "no-such-file"], 16, "no-such-file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_not_be_observed_is_refused_with_a_reason(
    scene: Scene, words: list[str], code: int, said: str
) -> None:
    done = scene.run("--", *words)
    assert done.returncode == code
    assert said in done.stderr.decode() and b"Traceback" not in done.stderr
    machine = json.loads(scene.run("--json", "--", *words).stdout)
    assert machine["status"] == "bad-input" and said in machine["headline"]


def test_a_program_that_only_has_the_name(scene: Scene) -> None:
    program = scene.folder / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    program.chmod(0o755)
    done = scene.run("--", str(program))
    assert done.returncode == ExitCode.BAD_INPUT
    assert b"did not greet as QEMU does" in done.stderr


@pytest.mark.parametrize(
    "name, lines, code, said",
    [
        ("bochs", "#!/bin/sh\nexit 0\n", 16, "Bochs did not start a machine"),
        ("qemu-system-x86_64", "no program\n", 16, "qemu-system-x86_64: Exec format error"),
        ("qemu-system-i386-9.9", "#!/bin/sh\nexit 0\n", 16, "QEMU did not start a machine"),
    ],
)
def test_other_programs_with_the_name(
    scene: Scene, name: str, lines: str, code: int, said: str
) -> None:
    program = scene.folder / name
    program.write_text(lines, encoding="ascii")
    (scene.folder / "bochsrc").touch()
    done = scene.run("--", f"./{name}")
    assert done.returncode == 16 and b"can't be executed" in done.stderr
    program.chmod(0o755)
    done = scene.run("--", f"./{name}")
    assert (done.returncode, said in done.stderr.decode()) == (code, True), done.stderr


def test_a_link_of_another_name_is_the_emulator(scene: Scene) -> None:
    image = boot_sector(scene.folder, "real.asm", f"GUEST={TRIPLE}")
    emulator = shutil.which("qemu-system-x86_64")
    assert emulator is not None
    (scene.folder / "mine").symlink_to(emulator)
    report = scene.report("--", "./mine", *qemu(image)[1:])
    assert report["status"] == "triple-fault"


@pytest.mark.parametrize("words", [["--cpus", "0"], ["--timeout", "-1"], ["--until", "("]])
def test_a_wrong_option_is_a_usage_error(scene: Scene, words: list[str]) -> None:
    done = scene.run(*words, "--", "qemu-system-x86_64")
    assert done.returncode == ExitCode.USAGE and b"expected" in done.stderr + b"expected"
    assert words[1].encode() in done.stderr


def test_what_is_typed_reaches_the_guests_serial_port(scene: Scene) -> None:
    image = boot_sector(scene.folder, "serial.asm", f"GUEST={ECHO}")
    child = scene.start("--", *qemu(image, "-serial", "stdio", *EXIT_DEVICE), stdin=subprocess.PIPE)
    assert child.stdin is not None and child.stderr is not None
    assert child.stderr.readline() == b"ready \n"  # firmware drops what comes before
    child.stdin.write(b"hi\x03q")
    child.stdin.flush()
    _, shown = child.communicate(timeout=LIMIT)
    assert b"68 69 03 71" in shown
    assert child.returncode == ExitCode.HEALTHY
    scene.nothing_is_left()


def test_a_core_of_the_dead_machine_is_explained_alike(scene: Scene) -> None:
    image = boot_sector(scene.folder, "protected.asm", "LONG=1", "AP=1")
    report = scene.report("--core", "dead.core", "--", *qemu(image, "-smp", "2", "-m", "32"))
    assert any("dead.core is the machine's core" in note for note in report["notes"])
    done = subprocess.run(
        [str(TREE / "debug/lamppost"), "explain", "--json", "dead.core"],
        cwd=scene.folder,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    explained = json.loads(done.stdout)
    assert (explained["status"], explained["culprit"]) == ("triple-fault", 1)
    assert report["chain"][0]["explanation"] == explained["chain"][0]["explanation"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_signal_leaves_nothing(scene: Scene, number: signal.Signals) -> None:
    image = boot_sector(scene.folder, "real.asm", f"GUEST={HANG}")
    before = signal.signal(number, signal.SIG_DFL)  # under nohup a child would ignore SIGHUP
    try:
        child = scene.start("--", *qemu(image))
    finally:
        signal.signal(number, before)
    deadline = time.monotonic() + LIMIT
    while not scene.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(number)
    said, _ = child.communicate(timeout=LIMIT)
    if number is signal.SIGINT:
        assert child.returncode == ExitCode.INTERRUPTED
        assert said, "Ctrl-C ends the machine, and what it did is still told"
    else:
        assert child.returncode == 128 + number
    scene.nothing_is_left()


@pytest.mark.skipif(not shutil.which("bochs"), reason="bochs is not installed")
def test_ctrl_c_on_bochs_tells_where_the_cpus_stand_and_that_there_is_no_core(scene: Scene) -> None:
    image = boot_sector(scene.folder, "serial.asm", f"GUEST={ECHO}")
    image.write_bytes(image.read_bytes().ljust(1440 << 10, b"\0"))
    machine = ("ata0-master: type=none", f"floppya: 1_44={image}, status=inserted", "boot: floppy")
    serial = f"com1: enabled=1, mode=file, dev={scene.folder}/serial"
    bochs = ("bochs", "-q", "-f", str(TREE / "bochsrc"), *machine, serial)
    child = scene.start("--core", "core", "--timeout", str(LIMIT), "--until", "never", "--", *bochs)
    assert child.stderr is not None
    before = child.stderr.readline()
    assert any(b"ready" in line for line in child.stderr)  # the guest runs
    child.send_signal(signal.SIGINT)
    said, complained = child.communicate(timeout=LIMIT)
    assert child.returncode == ExitCode.INTERRUPTED, complained
    assert re.search(rb"(?m)^    0  real mode, .*0x7c[0-9a-f]{2}$", said), said
    assert b"Bochs writes no core" in before and b"was not written" in said
    scene.nothing_is_left()


def test_a_flood_is_bounded_in_time_and_space(scene: Scene) -> None:
    """What was read of a console is given back to the disk at once."""
    image = boot_sector(scene.folder, "serial.asm", f"GUEST={FLOOD}")
    words = ("--json", "--timeout", str(LIMIT), "--", *qemu(image))
    child = scene.start(*words, stderr=subprocess.DEVNULL)
    written, taken, asked = 0, 0, False
    began = time.monotonic()
    while child.poll() is None and time.monotonic() - began < LIMIT:
        for path in (scene.folder / "scratch").glob("*/*"):
            try:
                found = path.stat()
            except OSError:
                continue
            written, taken = max(written, found.st_size), max(taken, found.st_blocks * 512)
        if written > ENOUGH and not asked:
            child.send_signal(signal.SIGINT)
            asked = True
        select.select([], [], [], 0.02)
    assert child.stdout is not None
    with child.stdout:
        report = json.loads(child.stdout.read())
    assert report["ending"] == "stopped" and report["status"] in ("healthy", "unknown", "hang")
    assert written > ENOUGH, "no flood"
    assert taken < ENOUGH
    scene.nothing_is_left()


def test_a_guest_that_claims_to_be_healthy_is_not_believed(scene: Scene) -> None:
    """Frames alone never support "certain", and no escape of the guest's reaches a terminal."""
    steps = [*range(0x10, 0x14), *range(0x30, 0x35), *range(0x60, 0x66), 0xA0, 0xA3, 0xA4]
    frames = [encode(0, 0xB8, None, 0)]
    frames += [encode(cpu, code, None, n) for cpu in (1, 2, 3) for n, code in enumerate(steps)]
    frames += [encode(0, 0xC7, 4, 1), encode(1, 0xE0, 14, 5)]
    claims = scene.folder / "claims"
    # 200 bytes of frames are all that a boot sector has room for.
    claims.write_bytes((b"\x1b]0;owned\x07\x1b[2J" + b"".join(frames[-8:]))[:230])
    image = boot_sector(scene.folder, "serial.asm", f"GUEST={CLAIM}", f"CLAIMS='{claims}'")
    done = scene.run("--cpus", "4", "--", *qemu(image, "-smp", "4"))
    assert b"\x1b" not in done.stdout + done.stderr and b"owned" not in done.stdout
    report = scene.report("--cpus", "4", "--", *qemu(image, "-smp", "4"))
    assert report["status"] != "healthy"
    assert all(cause["certainty"] != "certain" for cause in report["causes"]), report["causes"]


def test_a_machine_that_boots_nothing_is_not_said_to_miss_cpus(scene: Scene) -> None:
    report = scene.report("--timeout", "6", "--once", "--", "qemu-system-x86_64", "-smp", "2")
    assert report["status"] == "unknown" and "still in its firmware" in report["headline"]
    assert first_cause(report) == ("kernel-not-reached", "likely")


def test_a_machine_that_the_users_debugger_starts_is_awaited(scene: Scene) -> None:
    """With -S no clock of ours runs until somebody says "continue" to the stub."""
    image = boot_sector(scene.folder, "protected.asm", "LONG=1", "AP=0")
    words = qemu(image, "-S", "-gdb", "unix:stub,server=on,wait=off")
    child = scene.start("--json", "--timeout", "3", "--", *words)
    assert child.stderr is not None
    with child.stderr:
        assert b"your debugger starts the machine" in child.stderr.readline()
    began = time.monotonic()
    while not (scene.folder / "stub").exists() and time.monotonic() - began < LIMIT:
        select.select([], [], [], 0.05)
    select.select([], [], [], 4)  # longer than the timeout
    assert child.poll() is None
    with socket.socket(socket.AF_UNIX) as stub:
        stub.connect(str(scene.folder / "stub"))
        stub.sendall(b"+$?#3f")
        stub.recv(4096)
        stub.sendall(b"+$c#63")
        told, _ = child.communicate(timeout=LIMIT)
    assert json.loads(told)["status"] == "triple-fault"
    scene.nothing_is_left()


def test_what_follows_from_paging_that_was_refused_is_not_the_cause(scene: Scene) -> None:
    """QEMU goes on with 64-bit code in 16-bit mode, until an interrupt finds no gate."""
    report = scene.report("--", *qemu(boot_sector(scene.folder, "no_pae.asm")))
    assert report["status"] == "triple-fault"
    assert [cause["id"] for cause in report["causes"]] == ["pae-missing"]
