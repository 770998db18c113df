# SPDX-License-Identifier: BSD-2-Clause
"""The launcher: in a terminal, on bad input, and when it is ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pexpect
import pytest

from tests.gdb.drive import command, environment, left_over
from tests.tree import TREE

pytestmark = pytest.mark.emulator

LIMIT = 60  # seconds


def spawn(kernel: Path, directory: Path, *arguments: str) -> pexpect.spawn:
    """A session in a terminal of its own."""
    words = command(kernel, *arguments)
    terminal = pexpect.spawn(
        *(words[0], words[1:]),
        cwd=str(TREE),
        env={**environment(directory), "TERM": "dumb"},
        timeout=LIMIT,
        encoding="utf-8",
        dimensions=(50, 200),
    )
    terminal.expect_exact("(gdb) ")
    return terminal


def test_a_person_at_the_prompt(kernel: Path, tmp_path: Path) -> None:
    console = tmp_path / "console"
    terminal = spawn(kernel, tmp_path, "--console", str(console))
    terminal.sendline("continue")
    terminal.expect(r"CPU \d \(APIC ID \d\) in real mode")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("disable")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("lamp break AP_ONLINE")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("continue")
    terminal.expect("about to light a4 AP_ONLINE")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("disable")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("continue")
    terminal.expect_exact("Continuing")
    wait_for_text(console, b"4 of 4 CPUs online")
    terminal.sendintr()  # Ctrl-C stops the guest and ends nothing
    terminal.expect("SIGINT")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("lamp cpus")
    terminal.expect_exact("last stage")
    terminal.expect_exact("(gdb) ")
    terminal.sendline("quit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert left_over(tmp_path) == []


def wait_for_text(path: Path, text: bytes) -> None:
    """Until the guest has written it: GDB then waits for the machine to stop."""
    deadline = time.monotonic() + LIMIT
    while text not in path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_from_outside_it_leaves_nothing(
    kernel: Path, tmp_path: Path, number: signal.Signals
) -> None:
    terminal = spawn(kernel, tmp_path)
    os.kill(terminal.pid, number)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert wait_until_gone(tmp_path) == []


def test_killed_it_takes_its_children_with_it(kernel: Path, tmp_path: Path) -> None:
    terminal = spawn(kernel, tmp_path)
    os.kill(terminal.pid, signal.SIGKILL)
    left = [one for one in wait_until_gone(tmp_path, files=False) if "qemu" in one or "gdb " in one]
    terminal.close(force=True)
    assert left == []


def wait_until_gone(directory: Path, files: bool = True) -> list[str]:
    deadline = time.monotonic() + 10
    while True:
        left = [one for one in left_over(directory) if files or " " in one]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def test_no_network_port_is_opened(kernel: Path, tmp_path: Path) -> None:
    terminal = spawn(kernel, tmp_path)
    sockets = subprocess.run(["ss", "-Hltnp"], capture_output=True, check=False).stdout.decode()
    (directory,) = (tmp_path / "t").iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    terminal.sendline("quit")
    terminal.expect(pexpect.EOF)
    assert "qemu" not in sockets


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--kernel", "/nowhere/kernel.elf"], 16, "make kernel"),
        (["--cpus", "0"], 2, "number of CPUs"),
        (["--trampoline", "0x8001"], 2, "page address"),
        (["--options", "trampoline=banana"], 2, "page address"),
        (["--qemu", "no-such-qemu"], 3, "not installed"),
        (["--", "-cpu", "no-such-cpu"], 16, "no-such-cpu"),
        (["--", "-daemonize"], 2, "daemonize"),
        (["--trampoline-elf", "/nowhere/t.elf"], 16, "no such file"),
    ],
)
def test_bad_input(
    kernel: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    words = command(kernel)[:3] if "--kernel" in arguments else command(kernel)
    done = subprocess.run(
        [*words, *arguments],
        cwd=TREE,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert left_over(tmp_path) == []


def test_a_batch_has_a_deadline(kernel: Path, tmp_path: Path) -> None:
    script = tmp_path / "for_ever.gdb"
    script.write_text("disable\ncontinue\n", encoding="ascii")
    done = subprocess.run(
        command(kernel, "--batch", str(script), "--timeout", "3"),
        cwd=TREE,
        env=environment(tmp_path),
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 12
    assert "did not end within 3 s" in done.stderr.decode()
    assert left_over(tmp_path) == []


def test_a_file_that_is_no_kernel(kernel: Path, tmp_path: Path) -> None:
    other = tmp_path / "text.elf"
    other.write_text("no kernel\n", encoding="ascii")
    done = subprocess.run(
        [*command(kernel)[:3], "--kernel", str(other), "--batch", "/dev/null"],
        cwd=TREE,
        env=environment(tmp_path),
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode not in (0, 124)
    assert "Traceback" not in done.stdout.decode() + done.stderr.decode()
    assert str(other) in done.stdout.decode() + done.stderr.decode()
