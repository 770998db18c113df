# SPDX-License-Identifier: BSD-2-Clause
"""Boots the oracle guest under QEMU and asks the emulator what it sees."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from debug.evidence import Registers, Segment, TableRegister
from debug.x86.registers import Cr4

TABLES = 0x200000
CONFIG = 0x300000
RESULTS = 0x380000
SCRATCH = 0x2000000  # 2 MiB of RET instructions
RAM = 64 << 20
DEADLINE = 30.0  # seconds
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    cr0: int
    cr3: int
    cr4: int
    efer: int
    probes: tuple[tuple[int, int], ...] = ()  # (address, 0 read 1 write 2 fetch)

    def encode(self) -> bytes:
        head = struct.pack("<IIIIQ", self.cr0, self.cr3, self.cr4, self.efer, len(self.probes))
        return head + b"".join(struct.pack("<QQ", *probe) for probe in self.probes)


@dataclass(frozen=True)
class Snapshot:
    """Physical memory and what QEMU's monitor says about the CPU."""

    memory: bytes
    registers: Registers
    text: str  # info registers
    tlb: str
    mem: str

    def read(self, physical: int, length: int) -> Optional[bytes]:
        part = self.memory[physical : physical + length]
        return part if len(part) == length else None

    def result(self, index: int) -> tuple[int, int]:
        """(error code or 2**64-1, CR2) of a probe."""
        error, cr2 = struct.unpack_from("<QQ", self.memory, RESULTS + index * 16)
        return error, cr2


class Qmp:
    """Just enough of QEMU's monitor protocol."""

    def __init__(self, path: str, deadline: float) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: Any) -> Any:
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise AssertionError(answer["error"])
            if "return" in answer:
                return answer["return"]

    def human(self, line: str) -> str:
        return str(self.run("human-monitor-command", **{"command-line": line}))


def boot(tables: bytes, config: Config, ask: bool = True) -> Snapshot:
    """Run the guest until it has tried all probes; `ask`: want the monitor's page tables too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, monitor = folder / "guest.bin", str(folder / "qmp")
        source = str(HERE / "oracle_guest.asm")
        subprocess.run(
            ["nasm", "-f", "bin", "-o", str(image), source], check=True, timeout=DEADLINE
        )
        command = ["qemu-system-x86_64", "-accel", "tcg", "-m", "64M", "-display", "none"]
        command += ["-cpu", "qemu64,+pdpe1gb,+la57,+smep,+smap", "-nic", "none", "-no-reboot"]
        command += ["-debugcon", "stdio", "-qmp", f"unix:{monitor},server=on,wait=off"]
        command += ["-kernel", str(image), "-monitor", "none", "-serial", "none"]
        blobs = {"tables": (TABLES, tables), "config": (CONFIG, config.encode())}
        blobs["scratch"] = (SCRATCH, b"\xc3" * (2 << 20))
        for label, (address, data) in blobs.items():
            (folder / label).write_bytes(data)
            loader = f"loader,file={folder / label},addr={address:#x},force-raw=on"
            command += ["-device", loader]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            return _snapshot(process, monitor, folder, ask)
        finally:
            process.kill()
            process.communicate()


def _snapshot(process: subprocess.Popen[bytes], monitor: str, folder: Path, ask: bool) -> Snapshot:
    deadline = time.monotonic() + DEADLINE
    qmp = Qmp(monitor, deadline)
    assert process.stdout is not None
    seen = b""
    while b"K" not in seen:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise AssertionError(f"the guest did not finish: {qmp.human('info registers')}")
        part = os.read(process.stdout.fileno(), 4096)
        if not part:
            raise AssertionError("the guest died")
        seen += part
    qmp.run("stop")
    path = str(folder / "memory")
    qmp.run("pmemsave", val=0, size=RAM, filename=path)
    text = qmp.human("info registers")
    tlb = qmp.human("info tlb") if ask else ""
    # With 5 levels this takes the emulator half a minute.
    mem = qmp.human("info mem") if ask and not parse(text).control["cr4"] & Cr4.LA57 else ""
    return Snapshot(Path(path).read_bytes(), parse(text), text, tlb, mem)


def parse(text: str) -> Registers:
    """The registers of QEMU's `info registers`."""
    words: dict[str, int] = {}
    segments: dict[str, Segment] = {}
    tables: dict[str, TableRegister] = {}
    for line in text.splitlines():
        name = line.split("=")[0].strip()
        fields = line.partition("=")[2].split()
        if name in ("CS", "SS", "DS", "ES", "FS", "GS", "LDT", "TR"):
            selector, base, limit, flags = (int(item, 16) for item in fields[:4])
            segments[name.lower()] = Segment(selector, base, limit, flags)
        elif name in ("GDT", "IDT"):
            tables[name] = TableRegister(int(fields[0], 16), int(fields[1], 16))
        else:
            for item in line.replace(" =", "=").replace("= ", "=").split():
                key, _, value = item.partition("=")
                try:
                    words.setdefault(key.lower(), int(value, 16))
                except ValueError:
                    continue
    names = {"rsp": "esp", "rip": "eip", "rbp": "ebp"}
    rip = words["rip" if "rip" in words else "eip"]
    general = {name: words[key] for name, key in names.items() if key in words}
    general |= {name: words[name] for name in ("rsp", "rbp", "rbx") if name in words}
    control = {name: words[name] for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
    flags = words["rfl" if "rfl" in words else "efl"]
    gdtr, idtr = tables["GDT"], tables["IDT"]
    return Registers(rip, flags, general, control, segments, gdtr, idtr, cpl=words["cpl"])
