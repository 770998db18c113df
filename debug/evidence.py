# SPDX-License-Identifier: BSD-2-Clause
"""The evidence model: what is known about one machine, whoever observed it.

Every source (debug/sources) fills this model and knows nothing else; the explanation
(debug/explain) reads it and asks no source.  A field that a source can't tell is None, never a
guess, and the source adds a sentence to `Evidence.limits` where the gap can matter.

All addresses, registers and lengths are non-negative ints; everything is immutable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Mapping, NamedTuple, Optional, Protocol

from debug.stages.model import StageTable


class Ending(Enum):
    """How the observation of the machine ended."""

    TRIPLE_FAULT = "triple-fault"  # a CPU shut down and the machine stopped or reset
    RESET = "reset"  # the guest asked for a reset (keyboard controller, 0xCF9, ACPI)
    RESTARTED = "restarted"  # one of the two above; the source can't tell which
    EXITED = "exited"  # the guest ended the machine on purpose (exit device, power off)
    STOPPED = "stopped"  # the observer stopped it: deadline passed or the user asked
    UNTIL = "until"  # the text that the user waited for appeared
    EMULATOR_DIED = "emulator-died"  # the emulator ended by itself (abort, panic, bad option)
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Segment:
    """A segment register with its hidden part.

    `flags` is the descriptor's second dword with base and limit cleared, as QEMU prints it:
    bits 8-15 the access byte (type, S, DPL, P), bits 20-23 AVL, L, D/B, G.
    `limit` is in bytes, granularity already applied.
    """

    selector: int
    base: int
    limit: int
    flags: int

    @property
    def type(self) -> int:
        """The descriptor type, bits 8-11."""
        return self.flags >> 8 & 0xF

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.flags & 1 << 15)

    @property
    def long(self) -> bool:
        """The L bit: 64-bit code when EFER.LMA=1."""
        return bool(self.flags & 1 << 21)

    @property
    def big(self) -> bool:
        """The D/B bit: 32-bit code or stack."""
        return bool(self.flags & 1 << 22)


@dataclass(frozen=True)
class TableRegister:
    """GDTR or IDTR: linear base, limit in bytes minus one."""

    base: int
    limit: int


GENERAL = (
    "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
)  # in QEMU's order of `info registers`, not the encoding's


@dataclass(frozen=True)
class Registers:
    """One CPU's registers at one moment.

    `general` maps lower-case 64-bit names (rax … r15) to values; from a 32-bit dump only the
    eight classic ones are there.  `control` maps cr0 cr2 cr3 cr4 cr8 efer fs_base gs_base
    kernel_gs_base dr6 dr7 apic_base … to values, as far as the source knows them.
    """

    rip: Optional[int] = None
    rflags: Optional[int] = None
    general: Mapping[str, int] = field(default_factory=dict)
    control: Mapping[str, int] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)  # cs ss ds es fs gs ldt tr
    gdtr: Optional[TableRegister] = None
    idtr: Optional[TableRegister] = None
    cpl: Optional[int] = None
    a20: Optional[bool] = None
    smm: Optional[bool] = None

    def get(self, name: str) -> Optional[int]:
        """A register by its lower-case name: general, control, rip or rflags; None if unknown."""
        if name == "rip":
            return self.rip
        if name == "rflags":
            return self.rflags
        value = self.general.get(name)
        return value if value is not None else self.control.get(name)


@dataclass(frozen=True)
class LocalApic:
    """The local APIC's registers, as far as the source knows them [SDM 3A "APIC"]."""

    apic_id: Optional[int] = None
    base: Optional[int] = None
    enabled: Optional[bool] = None  # IA32_APIC_BASE.EN
    x2apic: Optional[bool] = None  # IA32_APIC_BASE.EXTD
    svr: Optional[int] = None
    esr: Optional[int] = None
    icr: Optional[int] = None  # 64 bits: destination in the upper half
    isr: tuple[int, ...] = ()  # vectors in service
    irr: tuple[int, ...] = ()  # vectors requested
    lvt: Mapping[str, int] = field(default_factory=dict)  # timer lint0 lint1 error …
    timer_initial: Optional[int] = None
    timer_current: Optional[int] = None
    tpr: Optional[int] = None  # task priority
    ldr: Optional[int] = None  # the logical ID alone: 8 bits in xAPIC mode
    dfr: Optional[int] = None  # bits 31:28: 15 for the flat model, 0 for clusters

    @property
    def on(self) -> bool:
        """Whether it takes interrupts: the enable flag of SVR, as far as that is known."""
        return bool((self.svr or 0) & 1 << 8)


@dataclass(frozen=True)
class HeldLine:
    """A pin of an I/O APIC that was active in each of some moments, level-triggered and not masked.

    `open`: in how many of them its CPU was to take the interrupt at once.
    """

    pin: int
    vector: int
    cpu: int  # index
    moments: int
    open: int


@dataclass(frozen=True)
class Pic:
    """One 8259A: the vector of its first line, and its registers, bit n for line n."""

    base: int
    imr: int  # masked
    isr: int  # in service
    irr: int  # requested


@dataclass(frozen=True)
class Cpu:
    """One CPU when the observation ended."""

    index: int
    registers: Registers
    apic_id: Optional[int] = None
    halted: Optional[bool] = None
    waiting_for_sipi: Optional[bool] = None
    shutdown: Optional[bool] = None  # this CPU is known to be the one that triple-faulted
    apic: Optional[LocalApic] = None
    executed: Optional[bool] = None  # False: it never fetched an instruction after its SIPI
    moved: Optional[bool] = None  # RIP differed between two samples; None: sampled once
    served: bool = False  # what its loop waits for was written while it was watched for that
    long_mode: Optional[bool] = None  # whether this CPU model has it (CPUID 80000001H EDX bit 29)


class Awaited(NamedTuple):
    """What a CPU's loop reads again and again, and how to know that the CPU has left it since."""

    cpu: int
    loop: range  # of its instruction pointer
    kept: tuple[tuple[str, int], ...]  # registers that the loop does not write, RSP among them
    physical: Optional[int] = None  # of the word in memory that it reads, if it is one
    size: int = 0  # bytes


class EventKind(Enum):
    EXCEPTION = "exception"
    HARDWARE_INTERRUPT = "hardware-interrupt"  # PIC or APIC, even where the vector is below 32
    SOFTWARE_INTERRUPT = "software-interrupt"
    TRIPLE_FAULT = "triple-fault"


@dataclass(frozen=True)
class ExceptionEvent:
    """One exception or interrupt, in order of delivery.

    `registers` are those at the moment of delivery: RIP of the faulting instruction (fault) or
    after it (trap).  `cr2` is CR2 at that moment: for #PF the faulting linear address.
    `while_delivering` is the vector that the emulator says was being delivered (-1: none;
    None: not known).
    """

    kind: EventKind
    vector: int
    registers: Registers
    error_code: Optional[int] = None
    cr2: Optional[int] = None
    cpu: Optional[int] = None
    while_delivering: Optional[int] = None
    tick: Optional[int] = None  # emulator time, only comparable within one source
    reason: str = ""  # the emulator's own words, if it has any (Bochs)


class IpiKind(Enum):
    INIT = "INIT"
    INIT_DEASSERT = "INIT de-assert"
    SIPI = "SIPI"
    NMI = "NMI"
    FIXED = "fixed"


@dataclass(frozen=True)
class IpiEvent:
    """An inter-processor interrupt that was sent or delivered."""

    kind: IpiKind
    source: Optional[int] = None  # CPU index
    destination: Optional[int] = None  # APIC ID; None with a shorthand or when not known
    shorthand: Optional[str] = None  # "self", "all", "all-but-self"
    vector: Optional[int] = None  # for SIPI: the page number
    delivered: Optional[bool] = None
    by_firmware: Optional[bool] = None
    tick: Optional[int] = None


@dataclass(frozen=True)
class ResetEvent:
    """A CPU or machine reset that the source saw, with the registers just before it."""

    cpu: Optional[int]
    registers: Optional[Registers] = None
    tick: Optional[int] = None


@dataclass(frozen=True)
class StageEvent:
    """One lamp lit by one CPU: from a frame (port 0xE9, COM1) or from the memory record."""

    apic_id: int
    code: int
    argument: Optional[int] = None
    sequence: Optional[int] = None
    tsc: Optional[int] = None
    source: str = ""  # "e9", "com1", "memory"
    damaged: bool = False  # torn in the stream; repaired from memory if source says "memory"


@dataclass(frozen=True)
class Symbol:
    """What lies at an address: `name`+`offset`, and the source line if it is known."""

    name: str
    offset: int
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.name}+{self.offset:#x}" if self.offset else self.name
        return f"{where}, {self.file}:{self.line}" if self.file else where


class Memory(Protocol):
    """Physical memory of the machine when the observation ended."""

    def read(self, physical: int, length: int) -> Optional[bytes]:
        """`length` bytes at a physical address; None where it can't be read."""


class Symbols(Protocol):
    """Names for linear addresses."""

    def lookup(self, address: int) -> Optional[Symbol]:
        """The nearest symbol at or below `address` that covers it; None if there is none."""

    def address(self, name: str) -> Optional[int]:
        """The linear address of the symbol `name`; None if there is none."""


@dataclass(frozen=True)
class Fragment:
    """Bytes that a source shows at a linear address, where it has no memory to read."""

    address: int
    data: bytes


class NoMemory:
    """The memory of a source that has none."""

    def read(self, physical: int, length: int) -> Optional[bytes]:
        return None


class NoSymbols:
    """The symbols of a machine that came without any."""

    def lookup(self, address: int) -> Optional[Symbol]:
        return None

    def address(self, name: str) -> Optional[int]:
        return None


@dataclass(frozen=True)
class Evidence:
    """Everything that is known about one machine."""

    emulator: str = ""  # "qemu", "bochs", "" when unknown
    version: str = ""
    accelerator: str = ""  # "tcg", "kvm", "" when it does not apply or is unknown
    ending: Ending = Ending.UNKNOWN
    exit_code: Optional[int] = None
    cpus: tuple[Cpu, ...] = ()
    events: tuple[ExceptionEvent, ...] = ()  # in time order
    ipis: tuple[IpiEvent, ...] = ()  # in time order
    resets: tuple[ResetEvent, ...] = ()
    stages: tuple[StageEvent, ...] = ()
    pics: tuple[Pic, ...] = ()  # the first one's output goes to the CPU
    io_apics: Optional[tuple[tuple[int, ...], ...]] = None  # their redirection entries, by pin
    held_lines: tuple[HeldLine, ...] = ()
    memory: Memory = field(default_factory=NoMemory)
    seen: tuple[Fragment, ...] = ()  # what is known of linear memory beside `memory`
    symbols: Symbols = field(default_factory=NoSymbols)
    console: str = ""  # the tail of what the guest printed, control characters removed
    quiet: Optional[float] = None  # seconds from the last thing printed to the end; None: not known
    messages: tuple[str, ...] = ()  # the emulator's own warnings and errors
    expected_cpus: Optional[int] = None  # how many CPUs must come up, if the user said so
    stage_table: Optional[StageTable] = None  # the guest's own, from its ELF; None: the built-in
    in_firmware: bool = False  # a CPU shut down before the firmware had handed over to anything
    cut_off: bool = False  # the source ends inside a record: the machine went on
    absent_images: tuple[str, ...] = ()  # ELF files that memory does not hold where they belong
    unseen: str = ""  # what was awaited on a console, and never came there
    limits: tuple[str, ...] = ()  # what this source can't tell, one sentence each
