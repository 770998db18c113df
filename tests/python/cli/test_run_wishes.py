# SPDX-License-Identifier: BSD-2-Clause
"""What `lamppost run` is asked to await, to keep and to write: granted, or refused at once."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from debug.cli.exit_codes import ExitCode
from tests.python.cli.machines import LIMIT, Scene, boot_sector, qemu

pytestmark = pytest.mark.emulator

KEYBOARD = 2  # real.asm: it asks the keyboard controller for a reset
FLOOD = 2  # serial.asm
SMALL = 1 << 20  # bytes: all that a file may take


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_without_the_awaited_text_no_machine_is_healthy(scene: Scene) -> None:
    image = boot_sector(scene.folder, "serial.asm", f"GUEST={FLOOD}")
    words = ("--timeout", "4", "--once", "--until", "log.n:")
    report = scene.report(*words, "--", *qemu(image))
    assert report["status"] == "unknown" and report["causes"] == []
    assert "'log.n:', which --until awaits, did not appear" in report["headline"]
    assert scene.run(*words, "--", *qemu(image)).returncode == ExitCode.UNKNOWN


@pytest.mark.parametrize("pattern", ["", "x*", "^"])
def test_a_pattern_that_fits_nothing_at_all_is_refused(scene: Scene, pattern: str) -> None:
    done = scene.run("--until", pattern, "--", "qemu-system-x86_64")
    assert done.returncode == ExitCode.USAGE and b"fits an empty console" in done.stderr


@pytest.mark.parametrize(
    ("option", "place", "said"),
    [
        ("--keep", "file", "this is a file; expected a directory"),
        ("--keep", "file/below", "Not a directory"),
        ("--keep", "/proc/self", "No such file or directory"),
        ("--core", "folder", "this is a directory; expected a file"),
        ("--core", "none/core", "there is no such directory"),
    ],
)
def test_what_can_not_be_written_is_said_before_the_machine_runs(
    scene: Scene, option: str, place: str, said: str
) -> None:
    (scene.folder / "file").touch()
    (scene.folder / "folder").mkdir()
    done = scene.run(option, place, "--", "qemu-system-x86_64")
    assert done.returncode == ExitCode.USAGE
    assert f"{option} {place}: {said}" in done.stderr.decode()


def test_a_core_can_be_written_again_by_its_owner(scene: Scene) -> None:
    image = boot_sector(scene.folder, "protected.asm", "LONG=0", "AP=0", "BEYOND=1")
    core = scene.folder / "core"
    scene.run("--core", str(core), "--once", "--", *qemu(image, "-m", "16"))
    assert core.stat().st_mode & 0o777 == 0o600


def test_a_disk_without_room_is_no_verdict(scene: Scene) -> None:
    """A log that was cut short shows no triple fault: that would read as a reset on purpose."""
    image = boot_sector(scene.folder, "real.asm", f"GUEST={KEYBOARD}")
    done = subprocess.run(
        ["prlimit", f"--fsize={SMALL}", *scene.argv("--", *qemu(image))],
        cwd=scene.folder,
        env=scene.environment,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == ExitCode.BAD_INPUT and done.stdout == b""
    assert re.search(rb"less than \d+ MiB can be written there", done.stderr), done.stderr
    scene.nothing_is_left()
