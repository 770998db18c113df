# SPDX-License-Identifier: BSD-2-Clause
"""What looks like the proof of one defect and has another explanation, each beside the real one."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from debug.evidence import EventKind, ExceptionEvent, IpiEvent, IpiKind, Registers, TableRegister
from debug.explain import roots
from debug.report.diagnosis import Diagnosis, diagnose
from tests.python.evidence_builder import (
    CODE32,
    CODE64,
    DATA,
    GDT,
    IDT,
    KERNEL,
    KERNEL_PHYSICAL,
    NULL_IDT,
    PAGE,
    STACKS,
    TRAMPOLINE,
    Machine,
    Ram,
    registers,
    segment,
)

FIRMWARE = IpiEvent(IpiKind.SIPI, 0, None, "all-but-self", vector=0x10, by_firmware=True)


def named(machine: Machine) -> tuple[str, dict[str, str]]:
    """(status, each row with its certainty, best first)."""
    found: Diagnosis = diagnose(machine.evidence())
    return found.status, {cause.row.id: cause.certainty.value for cause in found.causes}


def alone(code: str, halted: bool = False) -> Machine:
    """The BSP stands in this code, and the firmware parked the AP."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    here = registers(rip=KERNEL + 0x3000, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=halted, moved=False)
    machine.ipis.append(FIRMWARE)
    return machine.stop(registers("prot32", rip=0xFD09A), halted=True)


def test_a_kernel_that_starts_no_cpu_and_hangs_misses_no_sipi() -> None:
    """`-smp 2` is in many people's scripts, whatever their kernel does with it."""
    status, causes = named(alone("f3 90 eb fc"))
    assert status == "hang" and causes["no-sipi"] == "possible"
    assert "no-sipi" not in named(alone("eb fe", halted=True))[1]
    begun = alone("f3 90 eb fc")
    begun.ipis.append(IpiEvent(IpiKind.INIT, 0, 1))
    assert named(begun)[1]["no-sipi"] in ("likely", "certain")
    asked = alone("f3 90 eb fc")
    asked.expected = 2
    assert named(asked)[1]["no-sipi"] in ("likely", "certain")


PREPARED = (
    "[ OK ] double fault handler installed on IST 1",
    "kernel panic screen ready",
    "unhandled exception handlers: 32 registered",
    "Installing double fault handler",
    "Testing double fault... ",
    "Double fault stack: 0xffff800000012000",
)
REPORTED = (
    "DOUBLE FAULT at 0xffffffff80001234",
    "double fault",
    "Unhandled exception: page fault",
    "In double fault handler",
    "PANIC: paging not enabled",
    "panic: GDT already loaded",
    "Kernel panic - not syncing: no root file system was mapped",
)


@pytest.mark.parametrize("line", PREPARED)
def test_a_boot_that_prepares_for_a_panic_has_none(line: str) -> None:
    machine = Machine()
    machine.console = f"{line}\nready\n"
    assert named(machine) == ("healthy", {})


@pytest.mark.parametrize("line", REPORTED)
def test_a_panic_is_one_whatever_it_speaks_of(line: str) -> None:
    machine = Machine()
    machine.console = f"{PREPARED[0]}\n{line}\n"
    assert named(machine) == ("panic", {"kernel-panic": "certain"})


def test_words_about_a_guard_page_explain_no_jump() -> None:
    def died(console: str) -> dict[str, str]:
        machine = Machine()
        machine.console = console
        lost = registers(rip=KERNEL + 0x200000, rsp=STACKS + 0x4800, idtr=NULL_IDT)
        return named(machine.kill(lost, 14, 0x10, KERNEL + 0x200000))[1]

    assert "stack-overflow" not in died("stack ready, guard page at 0xffffffffc0000000\n")
    assert died("stack overflow\n")["stack-overflow"] == "possible"


def faulted(times: int, *stack: int, code: str = "f3 90 eb fc", after: int = 0) -> Machine:
    """The BSP took one page fault so often, has these words on its stack, and stands in a loop."""
    machine = Machine()
    probe = registers(rip=KERNEL + 0x4000, rsp=KERNEL + 0xA000)
    fault = ExceptionEvent(EventKind.EXCEPTION, 14, probe, 0, 0xFFFFFF8000000000, 0)
    machine.events = [fault] * times
    machine.events += [
        ExceptionEvent(EventKind.HARDWARE_INTERRUPT, 32, probe, None, None, 0)
    ] * after
    machine.ram.write(KERNEL_PHYSICAL + 0x3000, bytes.fromhex(code))
    machine.ram.write(KERNEL_PHYSICAL + 0x9000, struct.pack(f"<{len(stack)}Q", *stack))
    here = registers(rip=KERNEL + 0x3000, rsp=KERNEL + 0x9000)
    machine.bsp = replace(machine.bsp, registers=here, halted=code == "f4", moved=False)
    return machine.stop(registers("prot32", rip=0xFD09A), halted=True)


FRAME = (0, KERNEL + 0x4000, CODE64, 2, KERNEL + 0xA000, DATA)


def test_faults_that_were_handled_are_no_reason_to_stand_still() -> None:
    """Memory is probed, and an FPU given to the next thread, at one place again and again."""
    status, causes = named(faulted(40))
    assert status == "hang" and "handler-returns-to-fault" not in causes
    status, causes = named(faulted(40, *FRAME))
    assert status == "hang" and causes["handler-returns-to-fault"] == "certain"
    assert "handler-returns-to-fault" not in named(faulted(40, *FRAME, after=16))[1]


def test_a_cpu_that_halts_long_after_a_fault_does_not_halt_for_it() -> None:
    assert diagnose(faulted(1, *FRAME, code="f4").evidence()).explanation.chain
    assert not diagnose(faulted(1, code="f4").evidence()).explanation.chain


def pushed(rsp: int, code: str = "50", before: str = "", rbp: int = 0) -> dict[str, str]:
    """A CPU of somebody else's kernel executes `code` with this RSP, right behind `before`."""
    machine = Machine()
    lead = bytes.fromhex(before)
    machine.ram.write(KERNEL_PHYSICAL + 0x5000 - len(lead), lead + bytes.fromhex(code))
    here = registers(rip=KERNEL + 0x5000, rsp=rsp, rbp=rbp, idtr=NULL_IDT)
    return named(machine.kill(here, 14, 2, rsp - 8))[1]


FAR = STACKS - 0x40000


def test_a_stack_that_one_function_overran_was_no_stack_without_memory() -> None:
    """`char buffer[1 << 18]` steps over any guard page."""
    size = struct.pack("<I", STACKS + 0x4800 - FAR).hex()
    assert pushed(FAR, before=f"48 81 ec {size}") == {"stack-overflow": "likely"}
    assert pushed(FAR, rbp=STACKS + 0x4800) == {"stack-overflow": "likely"}
    assert pushed(FAR, before="48 81 ec 00 10 00 00")["stack-unmapped"] == "likely"


def test_a_stack_pointer_of_unknown_origin_may_be_garbage() -> None:
    assert pushed(FAR)["stack-unmapped"] == "likely"
    load = struct.pack("<Q", FAR).hex()
    assert pushed(FAR, before=f"48 bc {load} 90 90")["stack-unmapped"] == "certain"


def fetched(address: int, symbol: str = "") -> dict[str, str]:
    """A CPU of somebody else's kernel jumped to an address that its top table lacks."""
    machine = Machine()
    if symbol:
        machine.symbols.known[symbol] = (address, 16)
    lost = registers(rip=address, rsp=STACKS + 0x4800, idtr=NULL_IDT)
    return named(machine.kill(lost, 14, 0x10, address))[1]


def test_a_jump_to_garbage_does_not_miss_the_higher_half() -> None:
    assert fetched(0xFFFF_9000_1234_5678)["higher-half-unmapped"] == "possible"
    assert fetched(0xFFFF_9000_1234_5678, "main")["higher-half-unmapped"] == "certain"
    assert fetched(0xFFFF_8000_0010_0000)["higher-half-unmapped"] == "certain"


def test_a_base_of_0_may_have_been_another_one_before() -> None:
    def used(code: str, at: int) -> dict[str, str]:
        machine = Machine()
        machine.space.unmap(0)
        machine.ram.write(KERNEL_PHYSICAL + 0x5000, bytes.fromhex(code))
        here = registers(rip=KERNEL + 0x5000, rsp=STACKS + 0x4800, gs_base=0, idtr=NULL_IDT)
        return named(machine.kill(here, 14, 0, at))[1]

    assert used("65 48 8b 04 25 10 00 00 00", 0x10) == {"gs-base-not-set": "likely"}
    assert used("64 48 8b 04 25 28 00 00 00", 0x28) == {"gs-base-not-set": "certain"}  # the canary


def without_gdt(code: str, vector: int, error: int, task: int, before: str = "") -> dict[str, str]:
    """The memory at GDTR's base is zeros where `code` needs a selector of it."""
    machine = Machine()
    lead = bytes.fromhex(before)
    machine.ram.write(KERNEL_PHYSICAL + 0x5000 - len(lead), lead + bytes.fromhex(code))
    tr = segment(task, KERNEL + 0x7000 if task else 0, 0x67, 0x8B00)
    table = TableRegister(KERNEL + 0x6000, 0x37)
    here = registers(rip=KERNEL + 0x5000, rsp=STACKS + 0x4800, rax=DATA, gdtr=table, tr=tr)
    return named(machine.kill(here, vector, error))[1]


def test_a_gdt_that_was_used_before_is_overwritten_and_not_elsewhere() -> None:
    mov_ds, int3 = "8e d8", "cc"
    assert without_gdt(mov_ds, 13, DATA, 0x28) == {"gdt-overwritten": "likely"}
    assert without_gdt(int3, 3, 0, 0x28)["gdt-overwritten"] == "likely"
    assert without_gdt(mov_ds, 13, DATA, 0) == {"gdt-base-wrong": "likely"}
    fresh = without_gdt(mov_ds, 13, DATA, 0x28, before="0f 01 10")  # lgdt [rax]
    assert fresh == {"gdt-base-wrong": "certain"}


def turned_on(cr3: int, code: int = TRAMPOLINE + 0x100) -> Registers:
    """Registers right behind the MOV to CR0 that turns paging on with this CR3."""
    return registers(rip=code, cr3=cr3, cs=segment(CODE32, flags=0xC09B00), idtr=NULL_IDT)


def after_cr0(cr3: int, root: bytes, bsp: bool = False) -> dict[str, str]:
    machine = Machine()
    machine.ram.write(TRAMPOLINE + 0xFD, b"\x0f\x22\xc0\x90")
    machine.ram.write(cr3, root)
    dies = turned_on(cr3)
    return named(machine.kill(dies, 14, 0x10, dies.rip, cpu=0 if bsp else 1))[1]


def test_tables_of_an_ap_of_its_own_are_right_and_lack_a_page() -> None:
    """Many kernels start their APs with small tables made for that."""
    upper_half = bytes(8 * 511) + struct.pack("<Q", 0x13003)
    own = after_cr0(0x2F0000, upper_half)
    assert own == {"identity-map-missing": "likely", "cr3-wrong": "possible"}
    assert after_cr0(0x2F0000, bytes(PAGE)) == {"cr3-wrong": "certain"}
    assert after_cr0(0x2F0000, upper_half, bsp=True) == {"identity-map-missing": "certain"}
    assert after_cr0(0x2F0000, bytes(PAGE), bsp=True) == {"identity-map-missing": "likely"}


def test_page_tables_may_lie_at_0() -> None:
    """As those of Linux 0.11 do, and of those who learn from it."""

    def died(root: bytes) -> dict[str, str]:
        machine = Machine()
        machine.ram.write(0, root)
        machine.ram.write(0x1000, b"".join(struct.pack("<I", n << 12 | 3) for n in range(1024)))
        machine.ram.write(0x105000, bytes.fromhex("a3 00 00 00 e0"))  # mov [0xe0000000], eax
        flat = segment(CODE32, flags=0xC09B00)
        here = registers("prot32", rip=0x105000, cs=flat, idtr=NULL_IDT, cr0=0x80000011)
        return named(machine.kill(here, 14, 2, 0xE0000000, cpu=0))[1]

    assert list(died(struct.pack("<I", 0x1003)))[0] == "page-fault-undelivered"
    assert died(struct.pack("<4I", *(0xF000FF53,) * 4))["cr3-zero"] == "certain"
    assert died(bytes(16))["cr3-zero"] == "certain"


def test_vectors_at_0_are_no_tables_where_a_stub_reads_zeros_behind_the_ram() -> None:
    class Stub(Ram):
        def read(self, physical: int, length: int) -> bytes:
            return super().read(physical, length) or bytes(length)

    vectors = struct.pack("<8I", *(0xF000FF53,) * 6, 0xF000E987, 0xF000FEA5)
    for entry_size in (4, 8):
        evidence = Machine().evidence()
        memory = Stub()
        memory.write(0, vectors)
        assert not roots.built(replace(evidence, memory=memory), 0, entry_size)
        memory.write(0, struct.pack("<4Q", 0x1003, 0x2003, 0x83, 0))
        assert roots.built(replace(evidence, memory=memory), 0, entry_size)


def test_an_entry_with_an_address_and_no_flags_lacks_its_present_bit() -> None:
    table = after_cr0(0x2F0000, struct.pack("<Q", 0x11000), bsp=True)
    assert table == {"present-bit-missing": "likely"}
    assert after_cr0(0x2F0000, struct.pack("<Q", 0x1F0000), bsp=True) != table  # no table there


def test_a_selector_that_was_popped_may_be_no_selector() -> None:
    def loaded(code: str, before: str = "90") -> dict[str, str]:
        machine = Machine()
        machine.ram.write(0x100FFF, bytes.fromhex(before + code))
        machine.ram.write(0x9000, struct.pack("<I", 0xB7F3))
        flat = segment(CODE32, flags=0xC09B00)
        here = registers("prot32", rip=0x101000, cs=flat, rsp=0x9000, rax=0xB7F3, idtr=NULL_IDT)
        return named(machine.kill(here, 13, 0xB7F0, cpu=0))[1]

    assert loaded("1f") == {"data-segment-beyond-gdt": "likely"}  # pop ds
    assert loaded("8e d8", before="58") == {
        "data-segment-beyond-gdt": "likely"
    }  # pop eax; mov ds, ax
    assert loaded("8e d8") == {"data-segment-beyond-gdt": "certain"}
    assert loaded("8e d8", before="5b") == {"data-segment-beyond-gdt": "certain"}  # pop ebx


def test_a_level_more_would_map_much_and_is_no_reason() -> None:
    """A directory of 2 MiB pages looks like a table of 1 GiB pages, one level higher."""
    machine = Machine()
    for table, entry in ((0x2F0000, 0x2F1003), (0x2F1000, 0x2F2003), (0x2F2000, 0x83)):
        machine.ram.write(table, struct.pack("<Q", entry))
    machine.ram.write(0x5000, bytes.fromhex("a3 00 00 40 00 00 00 00 00"))
    here = registers(rip=0x5000, rax=0x400000, cr3=0x2F0000, rsp=0x9000, idtr=NULL_IDT)
    assert "la57-mismatch" not in named(machine.kill(here, 14, 2, 0x400000, cpu=0))[1]


def test_a_low_cr3_that_names_tables_is_no_frame_number() -> None:
    def died(root: bytes) -> dict[str, str]:
        machine = Machine()
        machine.ram.write(0x300, root)
        machine.ram.write(0x300000, machine.ram.read(0x10000, PAGE) or b"")
        lost = turned_on(0x300)
        return named(machine.kill(lost, 14, 0x10, lost.rip))[1]

    assert died(b"")["cr3-frame-number"] == "certain"
    assert "cr3-frame-number" not in died(struct.pack("<Q", 0x13003))


def test_a_jump_to_itself_after_a_last_word_may_be_an_end_on_purpose() -> None:
    def stands(console: str) -> dict[str, str]:
        machine = alone("eb fe")
        machine.console = console
        return named(machine)[1]

    assert stands("Successfully landed in 32-bit protected mode\n")["endless-jump"] == "possible"
    assert stands("disk read error\n")["endless-jump"] == "certain"
    assert stands("")["endless-jump"] == "certain"


@pytest.mark.parametrize(
    "version, code, gate",
    [
        ("7.2.22", 0x22, "gate 2 (NMI)"),
        ("10.0.2", 0x12, "gate 2 (NMI)"),
        ("10.0.2", 0x22, "gate 4"),
    ],
)
def test_which_gate_an_error_code_of_tcg_names(version: str, code: int, gate: str) -> None:
    """Nothing tells what was to be delivered but the error code of a gate beyond the limit."""
    machine = Machine()
    machine.ram.write(KERNEL_PHYSICAL + 0x5000, b"\xeb\x36")
    short = TableRegister(IDT, 0xF)
    here = registers(rip=KERNEL + 0x5000, rsp=STACKS + 0x4800, idtr=short)
    evidence = replace(machine.kill(here, 13, code).evidence(), version=version)
    found = diagnose(evidence)
    assert found.causes[0].row.id == "idt-limit-too-small"
    assert any(gate in line for line in found.causes[0].match.evidence)


def test_an_idt_of_garbage_is_none_and_one_of_zeros_was_not_filled() -> None:
    def died(table: bytes) -> dict[str, str]:
        machine = Machine()
        machine.ram.write(IDT, table)
        machine.ram.write(KERNEL_PHYSICAL + 0x5000, b"\xcc")
        here = registers(rip=KERNEL + 0x5000, rsp=STACKS + 0x4800)
        return named(machine.kill(here, 3))[1]

    assert died(b"some text, and more of it. " * 152)["idt-holds-no-gates"] == "likely"
    assert "gate-empty" not in died(b"some text, and more of it. " * 152)
    assert died(bytes(PAGE)) == {"gate-empty": "certain"}
    absent = struct.pack("<QQ", 0xFFFF_0E00_0008_8000, 0xFFFF_FFFF)  # P=0
    assert died(absent * 256) == {"gate-empty": "certain"}


def test_what_needs_nothing_turned_on_is_missing_in_the_cpu() -> None:
    """-march=native compiles BMI2 in, which is encoded as AVX is."""

    def undefined(code: str, cr4: int = 0x620) -> dict[str, str]:
        machine = Machine()
        machine.ram.write(KERNEL_PHYSICAL + 0x5000, bytes.fromhex(code))
        here = registers(rip=KERNEL + 0x5000, rsp=STACKS + 0x4800, cr4=cr4, idtr=NULL_IDT)
        return named(machine.kill(here, 6))[1]

    assert undefined("c4 e2 fa f7 c8") == {"instruction-unsupported": "likely"}  # sarx
    assert undefined("c5 fc 77") == {"avx-not-enabled": "certain"}  # vzeroall
    assert undefined("c5 fc 77", cr4=0x40620) == {"avx-not-enabled": "likely"}


def test_a_busy_tss_that_no_other_cpu_has_is_not_shared() -> None:
    def refused(task: int, cpu: int = 0) -> dict[str, str]:
        machine = Machine()
        machine.ram.write(GDT + 0x20, struct.pack("<QQ", 0x0000_8B00_5000_0067, 0))
        machine.ram.write(KERNEL_PHYSICAL + 0x5000, bytes.fromhex("0f 00 d8"))  # ltr ax
        tr = segment(task, 0x5000 if task else 0, 0x67, 0x8B00)
        table = TableRegister(GDT, 0x2F)
        here = registers(rip=KERNEL + 0x5000, rax=0x20, gdtr=table, tr=tr, idtr=NULL_IDT)
        return named(machine.kill(here, 13, 0x20, cpu=cpu))[1]

    assert refused(0) == {"tss-descriptor-bad": "likely"}  # 0x8b was written for 0x89
    assert refused(0x20) == {"tss-descriptor-bad": "certain"}  # LTR for the second time
    assert refused(0, cpu=1) == {"tss-busy": "likely"}


def test_rbp_is_no_stack_pointer_in_code_without_frames() -> None:
    def moved(rbp: int) -> dict[str, str]:
        machine = Machine()
        machine.ram.write(KERNEL_PHYSICAL + 0x5000, bytes.fromhex("0f 28 45 08"))
        here = registers(rip=KERNEL + 0x5000, rsp=STACKS + 0x4800, rbp=rbp, idtr=NULL_IDT)
        return named(machine.kill(here, 13, 0))[1]

    assert moved(STACKS + 0x4900) == {"stack-misaligned": "certain"}
    assert moved(KERNEL + 0x9000) == {"operand-misaligned": "certain"}
