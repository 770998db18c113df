# SPDX-License-Identifier: BSD-2-Clause
"""APIC IDs from 254 on, which only x2APIC can address.

The MADT lists those from 255 on as entries of type 9.  QEMU has x2APIC under TCG since 9.0, so
these machines run on that of Debian's backports, which is unpacked beside the installed one.
"""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.boot import machine, verdict
from tests.tree import TREE

pytestmark = pytest.mark.emulator

UNPACKED = TREE / "build" / "newer-qemu"
LIMIT = 300  # seconds for the packages to arrive
NOT_TO_BE_HAD = 3
EXITS = verdict.exit_codes()


@pytest.fixture(scope="session")
def newer_qemu() -> str:
    UNPACKED.parent.mkdir(exist_ok=True)
    with open(UNPACKED.parent / "newer-qemu.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [str(TREE / "tests/newer-qemu"), str(UNPACKED)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    if done.returncode == NOT_TO_BE_HAD:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return str(UNPACKED / "bin" / machine.QEMU)


class Case(NamedTuple):
    options: str
    ids: tuple[int, ...]  # of the APs that the machine has
    arrive: tuple[int, ...]
    exit: str


CASES = {
    "one-of-each-side": Case("selftest", (254, 255, 256), (254, 255, 256), "OK"),
    "wide-gap": Case("selftest", (287,), (287,), "OK"),
    "serial": Case("selftest smp=serial", (3, 255, 287), (3, 255, 287), "OK"),
    "broadcast": Case("selftest smp=broadcast", (254, 287), (254, 287), "OK"),
    "xapic": Case("selftest apic=xapic", (254, 255, 287), (254,), "TOO_MANY_CPUS"),
}


@pytest.mark.parametrize("name", CASES)
def test_cpus_are_reached_by_ids_that_have_more_than_8_bits(
    kernel: Path, newer_qemu: str, name: str
) -> None:
    case = CASES[name]
    extra = ["-accel", machine.SINGLE, "-machine", "q35", "-cpu", "max"]
    for apic_id in case.ids:
        extra += ["-device", f"max-x86_64-cpu,socket-id={apic_id},core-id=0,thread-id=0"]
    image = machine.kernel_image(kernel, case.options)
    cpus = "1,maxcpus=288,sockets=288"
    with machine.qemu(image, cpus, extra, emulator=newer_qemu) as guest:
        boot = guest.run()
    trace = verdict.decode_whole(boot.e9, name)
    assert boot.exit_code == EXITS[case.exit] << 1 | 1, trace.console
    verdict.check_aps(trace, case.arrive, name)
    online = len(case.arrive) + 1
    assert f"{online} of {online} CPUs online\n" in trace.console
    for apic_id in set(case.ids) - set(case.arrive):
        assert f"CPU with APIC ID {apic_id} left alone: xAPIC can't" in trace.console
