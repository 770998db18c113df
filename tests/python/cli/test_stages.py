# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost stages` as a user runs it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import termios
import time
from array import array
from pathlib import Path
from typing import Optional

import pytest

from debug.stages.checksum import encode

ROOT = Path(__file__).resolve().parents[3]
LAMPPOST = str(ROOT / "debug" / "lamppost")


def lamppost(
    *arguments: str, stdin: bytes = b"", cwd: Optional[Path] = None, **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [LAMPPOST, *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
    )


def frames(apic_id: int, *codes: int) -> bytes:
    return b"".join(encode(apic_id, code, None, n) for n, code in enumerate(codes))


HEALTHY = frames(0, 0xB8, 0xC7, 0xC9) + b"Hello from CPU 1!\r\n" + frames(1, 0x10, 0xA4, 0xA6)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.txt"
    path.write_bytes(HEALTHY)
    return path


def test_a_healthy_trace(trace: Path) -> None:
    done = lamppost("stages", str(trace), "--cpus", "2", "--strict")
    assert done.returncode == 0 and done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "CPU 0 BSP  b8 · c7 · c9 ✓"
    assert lines[1] == "CPU 1      10 · a4 · a6 ✓"
    assert lines[-1] == "2 of 2 CPUs online"
    assert "\x1b" not in done.stdout.decode()


def test_from_standard_input_from_elsewhere_and_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "lamp"
    link.symlink_to(LAMPPOST)
    done = subprocess.run(
        [str(link), "stages", "-"], input=HEALTHY, capture_output=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0 and b"2 of 2 CPUs online" in done.stdout


def test_an_ascii_locale_gets_ascii(trace: Path) -> None:
    done = lamppost("stages", str(trace), PYTHONIOENCODING="ascii")
    assert done.stdout.startswith(b"CPU 0 BSP  b8 - c7 - c9 ok\n")


def test_strict_and_missing_cpus_have_their_own_codes(tmp_path: Path, trace: Path) -> None:
    assert lamppost("stages", str(trace), "--cpus", "3").returncode == 11
    torn = tmp_path / "torn.txt"
    torn.write_bytes(HEALTHY + b"@01:6")
    assert lamppost("stages", str(torn)).returncode == 0
    done = lamppost("stages", str(torn), "--strict")
    assert done.returncode == 1 and b"torn frame '@01:6'" in done.stdout


def test_json_and_files(trace: Path, tmp_path: Path) -> None:
    outputs = ["--svg", str(tmp_path / "a.svg"), "--perfetto", str(tmp_path / "a.json")]
    done = lamppost("stages", str(trace), "--json", *outputs)
    report = json.loads(done.stdout)
    assert report["schema"] == "lamppost-stages-1" and report["online"] == 2
    assert [s["name"] for s in report["cpus"][1]["stages"]][0] == "AP_REAL16"
    assert report["console"] == "Hello from CPU 1!\n"
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "a.json").read_text())["traceEvents"]


def test_words_for_every_stage(trace: Path) -> None:
    out = lamppost("stages", str(trace), "--table").stdout.decode()
    assert "CPU 1  10  AP_REAL16" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_one_cpu_alone(trace: Path) -> None:
    out = lamppost("stages", str(trace), "--table", "--only", "1").stdout.decode()
    assert "CPU 1  10  AP_REAL16" in out and "CPU 0" not in out
    assert out.splitlines()[-1] == "2 of 2 CPUs online"
    done = lamppost("stages", str(trace), "--only", "7")
    assert done.returncode == 16 and b"APIC ID 7; there are 0, 1" in done.stderr
    done = lamppost("stages", str(trace), "--only", "4294967296")
    assert done.returncode == 2 and b"is not an APIC ID" in done.stderr


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "it is empty; expected lines such as @"),
        (b"nothing here\n", "no stage frame in its 13 bytes"),
        (b"\x00\xff@@@@\x1b", "no stage frame in its 7 bytes"),
    ],
)
def test_no_trace_is_one_message_and_16(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    done = lamppost("stages", str(path))
    assert done.returncode == 16 and done.stdout == b""
    message = done.stderr.decode()
    assert complaint in message and message.count("\n") == 1


def test_unreadable_files_and_wrong_elfs(tmp_path: Path, trace: Path) -> None:
    cases = [
        ["/nonexistent"],
        [str(tmp_path)],
        [str(trace), "--elf", "/nonexistent"],
        [str(trace), "--elf", str(trace)],
        [str(trace), "--elf", "/usr/bin/true"],
        [str(trace), "--memory", "/nonexistent"],
    ]
    for case in cases:
        done = lamppost("stages", *case)
        assert done.returncode == 16, case
        assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"lamppost: ")
    assert b"ELF without a stage table" in lamppost("stages", *cases[4]).stderr


def test_a_memory_dump_without_a_record_is_said_and_the_trace_is_kept(
    tmp_path: Path, trace: Path
) -> None:
    dump = tmp_path / "memory"
    dump.write_bytes(bytes(0x100000))
    done = lamppost("stages", str(trace), "--memory", str(dump))
    assert done.returncode == 0
    assert b"no stage record in the first MiB of memory" in done.stdout
    assert b"2 of 2 CPUs online" in done.stdout


def test_usage_errors_and_help() -> None:
    assert lamppost().returncode == 2
    assert lamppost("frobnicate").returncode == 2
    assert lamppost("stages").returncode == 2
    assert lamppost("stages", "x", "--cpus", "0").returncode == 2
    assert b"stages" in lamppost("--help").stdout and b"exit codes" in lamppost("--help").stdout
    assert b"--perfetto" in lamppost("stages", "--help").stdout


def test_a_reader_that_goes_away_is_no_error_message(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"".join(frames(n, 0x10, 0x11, 0x12) for n in range(4000)))
    with subprocess.Popen(
        [LAMPPOST, "stages", str(path), "--table"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def _sleeps(pid: int) -> bool:
    return (
        Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "S"
    )


def test_ctrl_c_ends_a_pipe_and_shows_what_came() -> None:
    """A machine that lives writes for ever; the terminal interrupts both ends of the pipe."""
    with subprocess.Popen(
        [LAMPPOST, "stages", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(HEALTHY)
        process.stdin.flush()
        unread, deadline = array("i", [1]), time.monotonic() + 60
        while (unread[0] or not _sleeps(process.pid)) and time.monotonic() < deadline:
            fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        shown = process.stdout.read()
        assert process.wait(60) == 0
    assert b"2 of 2 CPUs online" in shown


def test_a_missing_package_is_named(tmp_path: Path, trace: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError('none', name='rich')\n")
    done = lamppost("stages", str(trace), PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert done.stderr == (
        b"lamppost: the Python package rich is missing: apt-get install python3-rich\n"
    )
