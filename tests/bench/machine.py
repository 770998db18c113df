# SPDX-License-Identifier: BSD-2-Clause
"""Building what is measured, and booting it once."""

from __future__ import annotations

import fcntl
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import symbols_of
from debug.evidence import Ending
from debug.kernel.machine import ROOT, Kernel
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.errors import StartError
from debug.sources.qemu_live import Options, QemuMachine
from tests.bench.counts import BringUp, CountError, clock_cycles, frame_bytes, parse_counts

PLACE = ROOT / "build" / "bench"
SOURCE = ROOT / "tests" / "bench" / "count.c"
BUILDS = {"traced": "TRACE=1", "untraced": "TRACE=0"}
# From the call of the bring-up to the first thing after it; where an AP waits for the others; what
# sends an inter-processor interrupt.
PLACES = {
    "start": "smp_bring_up",
    "stop": "rendezvous_open",
    "arrive": "rendezvous",
    "call": "apic_send",
}
PLUGIN_VERSIONS = range(1, 10)  # of the plugin interface: QEMU takes only those that it knows
SHIFT = 7
BOOT_LIMIT = 120.0  # seconds
MACHINE = ("-machine", "q35")  # one that every QEMU gives 255 CPUs: all sizes on the same


class BenchError(CommandError):
    """Something can't be measured; the message says what, and what to do."""


@dataclass(frozen=True)
class Boot:
    """One boot: its counts, what the kernel read from the clock, and its output."""

    bring_up: BringUp
    cycles: int  # TSC cycles that the kernel says it took
    ap_bytes: int  # of the stage frames that the AP with APIC ID 1 sent to a port; 0: none


@dataclass(frozen=True)
class Bench:
    """The products that the boots need."""

    kernels: dict[str, Path]  # by the names of BUILDS
    plugin: Path

    def boot(self, build: str, cpus: int, options: str, shift: int = SHIFT) -> Boot:
        """Boot and count.  Raises BenchError."""
        return boot(self.kernels[build], self.plugin, cpus, options, shift)


def prepare(place: Path = PLACE) -> Bench:
    """Build both kernels and the plugin in `place`.  Raises BenchError."""
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, setting in BUILDS.items():
            _run(
                *("make", "-s", "-C", str(ROOT), "-f", "src/kernel.mk", setting),
                *(f"BUILD={place / name}", str(place / name / "lamppost.elf")),
            )
        kernels = {name: place / name for name in BUILDS}
        return Bench(kernels, build_plugin(place, kernels["traced"]))


def build_plugin(place: Path, kernel: Path) -> Path:
    """The plugin for the first interface version that this QEMU takes."""

    def objection(plugin: Path) -> str:
        try:
            boot(kernel, plugin, 1, "smp=off", SHIFT)
            return ""
        except BenchError as error:
            if "plugin" not in str(error):
                raise
            return str(error)

    return compile_plugin(place / "count.so", SOURCE, objection)


def compile_plugin(plugin: Path, source: Path, objection: Callable[[Path], str]) -> Path:
    """`plugin` from `source`, for the first version that QEMU has no objection to, or BenchError."""
    plugin.parent.mkdir(parents=True, exist_ok=True)
    said = ""
    for version in PLUGIN_VERSIONS:
        _run(
            *("gcc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall", "-Wextra", "-Werror"),
            *("-shared", "-fPIC", "-fvisibility=hidden", f"-DPLUGIN_VERSION={version}"),
            *("-o", str(plugin), str(source)),
        )
        said = objection(plugin)
        if not said:
            return plugin
    raise BenchError(
        "expected a QEMU that takes TCG plugins, to count instructions; this one says:\n" + said,
        ExitCode.MISSING_TOOL,
    )


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError(f"{argv[0]} is not installed: make setup", ExitCode.MISSING_TOOL) from None
    if done.returncode:
        raise BenchError(f"{argv[0]} failed:\n{done.stdout}{done.stderr}")


def _address(symbols: ElfSymbols, name: str) -> int:
    address = symbols.address(name)
    if address is None:
        raise BenchError(f"expected a function {name} in the kernel, to count from or to")
    return address


def boot(build: Path, plugin: Path, cpus: int, options: str, shift: int) -> Boot:
    """Boot the kernel in `build` until it says how many CPUs are online.  Raises BenchError."""
    symbols = symbols_of(((build / "lamppost.elf", 0),))
    kernel = Kernel(build, cpus, options)
    with tempfile.TemporaryDirectory(prefix="lamppost-bench-") as directory:
        out = Path(directory) / "counts"
        wanted = ",".join(f"{key}={_address(symbols, at):#x}" for key, at in PLACES.items())
        extra = [
            *MACHINE,
            *("-plugin", f"{plugin},{wanted},out={out}"),
            *("-icount", f"shift={shift},sleep=off", "-rtc", "base=2020-01-01,clock=vm"),
        ]
        wish = Options(
            timeout=BOOT_LIMIT, until=r"\d+ of \d+ CPUs online", cpus=cpus, idle=None, log=False
        )
        try:
            with QemuMachine(replace(kernel, extra=tuple(extra)).qemu(), wish) as machine:
                evidence = machine.observe()
                streams = dict(machine.streams)
        except StartError as error:
            raise BenchError(str(error), ExitCode.MISSING_TOOL) from error
        if evidence.ending is not Ending.UNTIL:
            raise BenchError(
                f"expected {cpus} CPUs to come up ({options}); QEMU instead: "
                + "; ".join(evidence.messages or (evidence.ending.value,))
            )
        try:
            counted = 1 if "smp=off" in options.split() else cpus
            bring_up = parse_counts(out.read_text(encoding="ascii"), counted)
        except (CountError, OSError, UnicodeDecodeError) as error:
            raise BenchError(f"{cpus} CPUs, {options}: {error}") from error
    cycles = clock_cycles(evidence.console)
    if cycles is None:
        raise BenchError("expected the kernel to say how long its bring-up took")
    ap_bytes = max(frame_bytes(streams.get(port, b"")).get(1, 0) for port in ("e9", "com1"))
    return Boot(bring_up, cycles, ap_bytes)
