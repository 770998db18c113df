# SPDX-License-Identifier: BSD-2-Clause
"""Kernels that are not ours light lamps with the kit; ours decodes and diagnoses them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Sequence

import pytest

from debug.stages.elf import read_table
from tests.kit.build import c_kernel, gas_kernel, nasm_kernel
from tests.tree import TREE

pytestmark = pytest.mark.emulator

LIMIT = 60  # seconds
GOOD = 33  # isa-debug-exit makes it of 0x10
AP = [0x10, 0x12, 0x13, 0x30, 0x31, 0x32, 0x33, 0x34, 0x60]
BSP = [0xB0, 0xC7]
MACHINE = "qemu-system-x86_64 -display none -nic none -device isa-debug-exit,iobase=0xf4".split()

Build = Callable[..., Path]
KERNELS = pytest.mark.parametrize("build", [nasm_kernel, gas_kernel], ids=["nasm", "gas"])


def lamppost(*argv: str) -> Any:
    """What a lamppost command says with --json."""
    done = subprocess.run(
        [sys.executable, TREE / "debug/lamppost", *argv],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stdout, done.stderr.decode("utf-8", "replace")
    return json.loads(done.stdout)


def boot(kernel: Path, cpus: int = 1, *more: str) -> Path:
    """Boot it to its good end; the trace of port 0xE9, with that of COM1 beside it."""
    trace = kernel.with_name("e9")
    consoles = ("-debugcon", f"file:{trace}", "-serial", f"file:{kernel.with_name('com1')}")
    done = subprocess.run(
        [*MACHINE, "-no-reboot", *consoles, "-smp", str(cpus), "-kernel", kernel, *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == GOOD, (done.stderr + trace.read_bytes()).decode("utf-8", "replace")
    return trace


def stages(kernel: Path, trace: Path) -> Any:
    """The decoded trace, under the kernel's own table."""
    return lamppost("stages", "--json", "--elf", str(kernel), str(trace))


def codes(cpu: Any) -> list[int]:
    return [stage["code"] for stage in cpu["stages"]]


def sequences(cpu: Any) -> Sequence[Any]:
    return [stage["sequence"] for stage in cpu["stages"]]


@KERNELS
def test_an_ap_climbs_through_the_modes_without_any_memory(build: Build, tmp_path: Path) -> None:
    kernel = build(tmp_path, "APS=1", "ROUNDS=1")
    trace = stages(kernel, boot(kernel, 2))
    assert [(cpu["apic_id"], codes(cpu)) for cpu in trace["cpus"]] == [
        (0, BSP),
        (1, [*AP, 0x8A, 0xA4]),  # and 8f, had a register changed that must not
    ]
    assert {n for cpu in trace["cpus"] for n in sequences(cpu)} == {None}
    assert trace["damage"] == []
    names = {stage["code"]: stage["name"] for stage in trace["cpus"][1]["stages"]}
    assert (names[0x8A], names[0xA4]) == ("OWN_STAGE", "AP_ONLINE")
    assert trace["online"] == 2


@KERNELS
def test_with_a_state_no_frame_of_many_cpus_tears(build: Build, tmp_path: Path) -> None:
    rounds = 100
    kernel = build(tmp_path, "APS=3", f"ROUNDS={rounds}", "STATE")
    e9 = boot(kernel, 4)
    trace = stages(kernel, e9)
    assert trace["damage"] == []
    assert [codes(cpu) for cpu in trace["cpus"]] == [BSP] + 3 * [[*AP, *rounds * [0x8A], 0xA4]]
    for cpu in trace["cpus"]:
        assert sequences(cpu) == [n % 16 for n in range(len(cpu["stages"]))]
    assert kernel.with_name("com1").read_bytes() == e9.read_bytes()


@KERNELS
def test_a_lock_that_nobody_gives_back_is_stolen(build: Build, tmp_path: Path) -> None:
    kernel = build(tmp_path, "APS=1", "ROUNDS=1", "STATE", "HELD")
    e9 = boot(kernel, 2)
    trace = stages(kernel, e9)
    assert [codes(cpu) for cpu in trace["cpus"]] == [BSP, [*AP, 0x8A, 0xA4]]
    assert trace["damage"] == []
    assert e9.read_bytes().startswith(b"\n@00:b0.0*")  # ends a line that could have been torn
    assert e9.read_bytes().count(b"\n\n") == 0  # and nothing else was stolen


@KERNELS
@pytest.mark.parametrize("state", [(), ("STATE",)], ids=["alone", "state"])
def test_apic_ids_of_eight_digits(build: Build, state: tuple[str, ...], tmp_path: Path) -> None:
    kernel = build(tmp_path, "APS=1", "ROUNDS=1", "WIDE", *state)
    trace = stages(kernel, boot(kernel, 2))
    assert [cpu["apic_id"] for cpu in trace["cpus"]] == [0x12345678]
    assert codes(trace["cpus"][0]) == [0xB0, *AP, 0x8A, 0xA4, 0xC7]
    assert set(sequences(trace["cpus"][0])) == {None}
    assert trace["damage"] == []


@KERNELS
def test_a_cpu_without_the_topology_leaf_has_an_apic_id_of_8_bits(
    build: Build, tmp_path: Path
) -> None:
    kernel = build(tmp_path, "APS=1", "ROUNDS=1")
    trace = stages(kernel, boot(kernel, 2, "-cpu", "qemu64,level=4"))
    assert [(cpu["apic_id"], len(cpu["stages"])) for cpu in trace["cpus"]] == [(0, 2), (1, 11)]


def test_apic_ids_of_eight_digits_in_c(tmp_path: Path) -> None:
    kernel = c_kernel(tmp_path, 64, "WIDE", "STATE")
    trace = stages(kernel, boot(kernel))
    assert [cpu["apic_id"] for cpu in trace["cpus"]] == [0x12345678]
    assert set(sequences(trace["cpus"][0])) == {None}
    assert trace["damage"] == []


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("state", [(), ("STATE",)], ids=["alone", "state"])
def test_c_code_goes_on_where_assembler_ends(
    bits: int, state: tuple[str, ...], tmp_path: Path
) -> None:
    kernel = c_kernel(tmp_path, bits, *state)
    e9 = boot(kernel)
    trace = stages(kernel, e9)
    assert trace["damage"] == []
    cpu = trace["cpus"][0]
    start = [0xB0, 0xB5, 0xB6] if bits == 64 else [0xB0]
    assert codes(cpu) == [*start, 0xB8, 0xBD, 0x8A, *20 * [0x8B], 0xC7]
    arguments = [stage["argument"] for stage in cpu["stages"][len(start) :]]
    assert arguments == [None, 0, 0x89ABCDEF, *range(20), None]
    assert cpu["stages"][len(start) + 2]["name"] == "OWN_STAGE_C"
    count = len(cpu["stages"])
    assert sequences(cpu) == ([n % 16 for n in range(count)] if state else count * [None])
    if state:
        assert kernel.with_name("com1").read_bytes() == e9.read_bytes()


def diagnosis(kernel: Path, cpus: int) -> Any:
    return lamppost("run", "--json", "--", *MACHINE, "-smp", str(cpus), "-kernel", str(kernel))


@KERNELS
def test_the_diagnosis_names_the_last_lamp_of_the_ap_that_died(
    build: Build, tmp_path: Path
) -> None:
    kernel = build(tmp_path, "APS=1", "ROUNDS=1", "BROKEN")
    report = diagnosis(kernel, 2)
    assert (report["status"], report["culprit"]) == ("triple-fault", 1)
    assert report["cpus"][1]["stages"] == AP[: AP.index(0x33) + 1]  # LME set, paging never on
    assert report["cpus"][1]["last_stage"] == 0x33
    assert report["causes"] != []


def test_the_diagnosis_names_the_last_lamp_in_c(tmp_path: Path) -> None:
    report = diagnosis(c_kernel(tmp_path, 64, "BROKEN"), 1)
    assert (report["status"], report["culprit"]) == ("triple-fault", 0)
    assert report["cpus"][0]["last_stage"] == 0x8A
    assert "0x40000000" in report["chain"][0]["explanation"]


@KERNELS
def test_a_healthy_kernel_with_lamps_is_healthy(build: Build, tmp_path: Path) -> None:
    report = diagnosis(build(tmp_path, "APS=1", "ROUNDS=1", "STATE"), 2)
    assert (report["status"], report["causes"]) == ("healthy", [])


def test_a_stage_of_the_kernels_own_is_told_in_its_own_words(tmp_path: Path) -> None:
    kernel = c_kernel(tmp_path, 64, "BROKEN")
    own = read_table(str(kernel)).get(0x8A)
    assert own is not None and own.name == "OWN_STAGE_C"
    for symbols, known in ((("--symbols", str(kernel)), True), ((), False)):
        command = [str(TREE / "debug/lamppost"), "run", *symbols]
        command += ["--", *MACHINE, "-kernel", str(kernel)]
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, timeout=LIMIT, check=False
        )
        said = " ".join(done.stdout.decode("utf-8", "replace").split())
        assert (f"last stage 8a: {own.became}" in said) is known, said
