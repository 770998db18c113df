# SPDX-License-Identifier: BSD-2-Clause
"""`make bench-peers`: our bring-up beside those of kernels that Debian packages, in one run.

Each is booted in turn, ROUNDS times, on one host thread for all vCPUs, and timed from its first
INIT to the line in which it says that all CPUs are online.  QEMU's trace of local APIC writes shows
the INIT, with the host's time; the firmware's own start of the CPUs comes before it and ends with
a SIPI.  memtest86+ says nothing: it starts one CPU after the other and waits for each, so its
last SIPI counts, in its favour.

One more boot of each counts the instructions of all its CPUs between the same two moments, with a
QEMU plugin (running_total.c).  It runs without -icount, under which Debian's Linux starts no AP on
QEMU 7.2 (four CPUs, 150 s).  So a wait by the clock counts as what was executed meanwhile, and Xen's
and Linux's counts, which are nearly all waits, follow the host's speed.

The packages are unpacked below build/sweep, not installed: Xen's would change how the host boots.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Sequence

from debug.cli.errors import CommandError
from debug.kernel.machine import Kernel
from tests.bench.counts import median
from tests.bench.machine import PLACE, compile_plugin
from tests.bench.running_total import EVENTS, Starter, executed, is_sipi
from tests.machines.images import IMAGES
from tests.machines.packages import MachineError

CPUS, ROUNDS = 64, 3
LIMIT = 300.0  # seconds for one boot
SOURCE = Path(__file__).with_name("running_total.c")
SILENCE = 5.0  # seconds without a further SIPI: it was the last one
MEMORY = "1024"  # MiB: Xen and Linux keep something for each CPU
_ICR = re.compile(r"@(\d+\.\d+):apic_mem_writel (?:0x)?0*300 = (?:0x)?([0-9a-f]+)")


@dataclass(frozen=True)
class Peer:
    """A kernel, and the line by which it says that all are online; None: it says nothing."""

    name: str
    argv: tuple[str, ...]
    online: Optional[str]


@dataclass(frozen=True)
class Timing:
    """Seconds of one bring-up, how many start-up messages it took, and instructions if counted."""

    seconds: float
    sipis: int
    instructions: Optional[int] = None


class PeerError(Exception):
    """A peer did not come up; the message says how far it came."""


def peers(cpus: int) -> list[Peer]:
    """Ours first.  Raises MachineError when a package can't be had."""
    memtest, linux, xen = (IMAGES[name].made() for name in ("memtest-x64", "linux", "xen"))
    ours = Kernel(cpus=cpus, options="trace=mem")
    serial = "console=ttyS0"
    return [
        Peer("lamppost", ("-kernel", str(ours.elf), "-append", ours.options), r"CPUs online"),
        Peer("memtest86+", ("-kernel", str(memtest), "-append", "console=ttyS0,115200"), None),
        Peer(
            "Xen",
            ("-kernel", str(xen), "-initrd", str(linux))
            + ("-append", f"com1=115200,8n1 console=com1 loglvl=all maxcpus={cpus}"),
            r"Brought up (\d+) CPUs",
        ),
        Peer(
            "Linux",
            ("-kernel", str(linux), "-append", f"{serial} earlyprintk=serial,ttyS0 panic=-1"),
            r"Brought up \d+ nodes?, (\d+) CPU",
        ),
    ]


def icr_writes(log: str) -> list[tuple[float, int]]:
    """The host's time and the value of each write to a local APIC's ICR that QEMU traced."""
    return [(float(t), int(value, 16)) for t, value in _ICR.findall(log)]


def first_init(writes: Sequence[tuple[float, int]]) -> Optional[int]:
    """Where in `writes` the kernel's first INIT is: after the firmware's SIPI."""
    starter = Starter()
    return next((at for at, (_, icr) in enumerate(writes) if starter.is_first_init(icr)), None)


def boot(peer: Peer, cpus: int, plugin: Optional[Path] = None) -> Timing:
    """Boot once, with the plugin to count and not to time.  Raises PeerError."""
    with tempfile.TemporaryDirectory(prefix="lamppost-peers-") as directory:
        log = Path(directory) / "trace"
        log.touch()
        argv = [
            *("qemu-system-x86_64", "-m", MEMORY, "-smp", str(cpus)),
            *("-accel", "tcg,thread=single", "-nic", "none", "-display", "none"),
            *("-serial", "stdio", "-no-reboot", "-msg", "timestamp=on"),
            *("-trace", "apic_mem_writel", "-D", str(log), *peer.argv),
        ]
        if plugin:
            argv += ["-plugin", str(plugin), "-d", "plugin"]
            argv += [word for event in EVENTS for word in ("-trace", event)]
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            timing = _watch(child, peer, log)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        if not plugin:
            return timing
        with open(log, encoding="latin-1") as lines:
            return replace(timing, instructions=executed(lines, peer.online))


def _watch(child: subprocess.Popen[bytes], peer: Peer, log: Path) -> Timing:
    deadline = time.monotonic() + LIMIT
    text, spoken = b"", 0.0  # and when it said that all are online, by the host's clock
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            data = b""
            if selector.select(0.5):
                data = os.read(child.stdout.fileno(), 65536)
                if not data:
                    break
            now = time.time()
            text += data
            if not spoken and peer.online and re.search(peer.online.encode(), text):
                spoken = now
            if peer.online and not spoken:
                continue
            writes = icr_writes(log.read_text(encoding="latin-1"))
            start = first_init(writes)
            sipis = [t for t, v in writes[start or 0 :] if is_sipi(v)]
            if start is None or not sipis:
                continue
            if not peer.online and now > sipis[-1] + SILENCE:
                spoken = sipis[-1]
            if spoken:
                return Timing(spoken - writes[start][0], len(sipis))
    raise PeerError(f"{peer.name}: not online within {LIMIT:.0f} s, or QEMU ended: {text[-300:]!r}")


@dataclass(frozen=True)
class Line:
    """What the rounds of one peer gave."""

    name: str
    seconds: tuple[float, ...]
    sipis: int
    instructions: Optional[int] = None


def count(everyone: Sequence[Peer], cpus: int) -> dict[str, Optional[int]]:
    """Each one's instructions; None where they can't be counted, said on stderr."""
    try:
        plugin = compile_plugin(PLACE / "running_total.so", SOURCE, _accepts)
    except CommandError as error:
        print(f"instructions are not counted: {error}", file=sys.stderr)
        return {peer.name: None for peer in everyone}
    counts: dict[str, Optional[int]] = {}
    for peer in everyone:
        print(f"counting the instructions of {peer.name}", file=sys.stderr, flush=True)
        try:
            counts[peer.name] = boot(peer, cpus, plugin).instructions
        except PeerError as error:
            print(f"not counted: {error}", file=sys.stderr)
            counts[peer.name] = None
    return counts


def _accepts(plugin: Path) -> str:
    """What QEMU says against the plugin, nothing if it takes it."""
    done = subprocess.run(
        ["qemu-system-x86_64", "-M", "none", "-accel", "tcg", "-plugin", str(plugin)]
        + ["-display", "none", "-monitor", "stdio"],
        input="quit\n",
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return done.stderr if done.returncode else ""


def measure(cpus: int, rounds: int) -> list[Line]:
    """All peers in turn, so often.  Raises PeerError, MachineError."""
    everyone = peers(cpus)
    timings: dict[str, list[Timing]] = {peer.name: [] for peer in everyone}
    for number in range(rounds):
        for peer in everyone:
            print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr, flush=True)
            timings[peer.name].append(boot(peer, cpus))
    counts = count(everyone, cpus)
    return [
        Line(name, tuple(t.seconds for t in found), found[0].sipis, counts[name])
        for name, found in timings.items()
    ]


def _number(value: Optional[int]) -> str:
    return "not counted" if value is None else f"{value:,}".replace(",", " ")


def table(lines: Sequence[Line], cpus: int) -> str:
    """For a person; the medians, and how they compare with the first line's."""
    ours = median(lines[0].seconds)
    rows = [
        f"Bring-up of {cpus} CPUs, QEMU on one thread: first INIT to all online, medians of"
        f" {len(lines[0].seconds)}",
        "",
        f"  {'':12}{'ms':>10}{'least':>10}{'most':>10}{'÷ ours':>9}{'SIPIs':>7}"
        f"{'instructions':>15}",
    ]
    for line in lines:
        middle = median(line.seconds)
        rows.append(
            f"  {line.name:12}{middle * 1000:>10.1f}{min(line.seconds) * 1000:>10.1f}"
            f"{max(line.seconds) * 1000:>10.1f}{middle / ours:>9.1f}{line.sipis:>7}{_number(line.instructions):>15}"
        )
    rows += [
        "",
        "  instructions: of all CPUs, counted in one more boot; a wait by the clock",
        "  counts as what was executed meanwhile.  memtest86+: to its last SIPI.",
    ]
    return "\n".join(rows) + "\n"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point: 0 measured, 1 a peer did not come up or could not be had."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--cpus", type=int, default=CPUS, help=f"of each machine ({CPUS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"boots of each ({ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.cpus < 2 or options.rounds < 1:
        parser.error("expected --cpus from 2 on and --rounds from 1 on")
    try:
        lines = measure(options.cpus, options.rounds)
    except (PeerError, MachineError) as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 1
    if options.json:
        found = {
            line.name: {
                "seconds": line.seconds,
                "sipis": line.sipis,
                "instructions": line.instructions,
            }
            for line in lines
        }
        print(json.dumps({"schema": "lamppost-peers-1", "cpus": options.cpus, "peers": found}))
    else:
        print(table(lines, options.cpus), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
