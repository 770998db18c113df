# SPDX-License-Identifier: BSD-2-Clause
"""Logs as people paste them, in the formats of QEMU and Bochs: what is said, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional

import pytest

from debug.cli.explain import decode_stages, explain
from debug.report.diagnosis import Diagnosis
from debug.sources.elf_symbols import ElfSymbols
from debug.sources.files import FileReader

Say = Callable[[str], Diagnosis]


@pytest.fixture(name="say")
def fixture_say(tmp_path: Path) -> Say:
    """A function from the text of a log to its diagnosis."""

    def say(text: str) -> Diagnosis:
        path = tmp_path / "log.txt"
        path.write_text(text, encoding="utf-8")
        with FileReader(decode_stages) as reader:
            return explain(reader.read(str(path)), ElfSymbols(()))

    return say


def causes(found: Diagnosis) -> dict[str, str]:
    return {cause.row.id: cause.certainty.value for cause in found.causes}


def bochs(
    *errors: str,
    vector: int = 13,
    rip: int = 0x10_1234,
    rsp: int = 0x10_F000,
    cr2: int = 0,
    long: bool = False,
    disassembled: str = "",
) -> str:
    """A shutdown of CPU 0 in a Bochs log of the default levels, which then resets."""
    tick, e = "00081234567", "R" if long else "E"
    wide = 16 if long else 8
    lines = [f"{tick}e[CPU0  ] {error}" for error in errors]
    lines += [
        f"{tick}i[CPU0  ] CPU is in {'long' if long else 'protected'} mode (active)",
        f"{tick}i[CPU0  ] CS.mode = {64 if long else 32} bit",
        f"{tick}i[CPU0  ] EFER   = 0x{0x500 if long else 0:08x}",
        f"{tick}i[CPU0  ] | {e}AX={0x11:0{wide}x}  {e}BX={0x22:0{wide}x}",
        f"{tick}i[CPU0  ] | {e}SP={rsp:0{wide}x}  {e}BP={0:0{wide}x}",
        f"{tick}i[CPU0  ] | IOPL=0 id vip vif ac vm RF nt of df if tf sf zf af PF cf",
        f"{tick}i[CPU0  ] |  CS:0008( 0001| 0|  0) 00000000 ffffffff 1 {0 if long else 1}",
        f"{tick}i[CPU0  ] |  DS:0010( 0002| 0|  0) 00000000 00000fff 0 1",
        f"{tick}i[CPU0  ] |  SS:0010( 0002| 0|  0) 00000000 ffffffff 1 1",
        f"{tick}i[CPU0  ] | {e}IP={rip:0{wide}x} ({rip:0{wide}x})",
        f"{tick}i[CPU0  ] | CR0=0x{0xE0000011 if cr2 or long else 0x60000011:08x} CR2=0x{cr2:0{wide}x}",
        f"{tick}i[CPU0  ] | CR3=0x0009b000 CR4=0x{0x20 if long else 0:08x}",
    ]
    if disassembled:
        lines.append(f"(0).[81234567] [0x{rip & 0xFFFFFF:012x}] 0008:{rip:016x} ({disassembled}")
    lines += [
        f"{tick}e[CPU0  ] exception(): 3rd ({vector}) exception with no resolution, shutdown status"
        " is 00h, resetting",
        f"{tick}i[SYS   ] bx_pc_system_c::Reset(HARDWARE) called",
        f"{tick}i[CPU0  ] cpu hardware reset",
    ]
    return "\n".join(lines) + "\n"


BOOTS = "00090000000i[BIOS  ] Booting from 0000:7c00\n"
HIGH = 0xFFFF_8000_0010_1234


def test_what_the_next_boot_says_is_not_taken_for_the_firmwares(say: Say) -> None:
    dead = bochs("interrupt(): not accessible or not code segment cs=0x0010")
    assert causes(say(dead + BOOTS)) == causes(say(dead))
    assert causes(say(dead))["gate-selector-bad"] == "certain"


def test_a_refused_gate_is_told_beside_what_was_to_be_delivered(say: Say) -> None:
    load = "load_seg_reg(DS, 0x0023): RPL & CPL must be <= DPL"
    gate = "interrupt(): not accessible or not code segment cs=0x0010"
    both = causes(say(bochs(load, gate, gate)))
    assert both["gate-selector-bad"] == both["data-segment-privilege"] == "certain"
    assert "gate-selector-bad" not in causes(say(bochs(load)))


def test_an_access_beyond_a_segment_names_the_small_ones(say: Say) -> None:
    found = say(bochs("write_virtual_checks(): write beyond limit, r/w"))
    assert causes(found)["segment-limit-exceeded"] == "likely"
    lines = found.causes[0].match.evidence
    assert "DS 0x0010 has the limit 0xfff" in lines and not any("SS" in line for line in lines)
    silent = say(bochs("write_virtual_checks(): no write access to seg"))
    assert "segment-limit-exceeded" not in causes(silent)


@pytest.mark.parametrize(
    "rip, rsp, cr2, certainty",
    [
        (HIGH, 0x80FF8, 0x80FE8, "likely"),
        (0x101234, 0x80FF8, 0x80FE8, "possible"),
        (HIGH, HIGH + 0x1FF8, HIGH + 0x1FE8, "possible"),
        (HIGH, 0x80FF8, 0x90000, None),
    ],
)
def test_the_kernels_half_on_a_loaders_stack(
    say: Say, rip: int, rsp: int, cr2: int, certainty: Optional[str]
) -> None:
    found = causes(say(bochs(vector=14, rip=rip, rsp=rsp, cr2=cr2, long=True)))
    assert found.get("stack-unmapped") == certainty


def test_the_instruction_that_bochs_disassembled_is_judged(say: Say) -> None:
    movaps = "unk. ctxt): movaps xmm0, xmm1 ; 0f28c1"
    assert causes(say(bochs(rip=HIGH, long=True, disassembled=movaps)))["sse-not-enabled"]
    nop = "unk. ctxt): nop ; 90"
    assert "sse-not-enabled" not in causes(say(bochs(rip=HIGH, long=True, disassembled=nop)))


DUMP64 = """\
RAX=0000000000000a14 RBX=0000000000000001 RCX={rcx:016x} RDX=00000000000003f8
RSI=00000000000003f8 RDI=0000000000000a14 RBP=0000000000000001 RSP=000000000{rsp:07x}
R8 =0000000000000022 R9 =0000000000000000 R10=0000000000000003 R11=00000000000001f4
R12=0000000000000000 R13=0000000000000000 R14=0000000000000000 R15=0000000000000000
RIP=0000000000201230 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 0000000000000000 00000000 00000000
CS =0008 0000000000000000 00000000 00209b00 DPL=0 CS64 [-RA]
SS =0000 0000000000000000 00000000 00000000
DS =0000 0000000000000000 00000000 00000000
FS =0000 0000000000000000 00000000 00000000
GS =0000 0000000000000000 00000000 00000000
LDT=0000 0000000000000000 0000ffff 00008200 DPL=0 LDT
TR =0028 0000000000a35430 00000067 00008900 DPL=0 TSS64-avl
GDT=     0000000004605310 00000037
IDT=     0000000003140980 00000fff
CR0=80010011 CR2=0000000000000000 CR3=0000000001ca9000 CR4=00000020
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000d00
"""


def interrupted(selector: int, rcx: int = 0xA, rsp: int = 0x7E0F60) -> str:
    """An interrupt whose delivery, or a later instruction, is refused a selector."""
    record = "     {}: v={:02x} e={:04x} i=0 cpl=0 IP=0008:0000000000201230 pc=0000000000201230"
    record += " SP=0000:00000000007e0f60 env->regs[R_EAX]=0000000000000a14\n"
    first = DUMP64.format(rcx=0xA, rsp=0x7E0F60)
    then = DUMP64.format(rcx=rcx, rsp=rsp)
    return (
        record.format(1, 0x20, 0)
        + first
        + "check_exception old: 0xffffffff new 0xd\n"
        + record.format(2, 13, selector)
        + then
        + "check_exception old: 0xd new 0xd\n"
        + record.format(3, 8, 0)
        + then
        + "check_exception old: 0x8 new 0xd\nTriple fault\n"
    )


def test_the_selector_in_an_interrupts_gate_is_refused(say: Say) -> None:
    assert causes(say(interrupted(0x10)))["gate-selector-bad"] == "likely"
    loaded = causes(say(interrupted(0x10, rcx=0x10)))  # an instruction may have loaded it
    assert "gate-selector-bad" not in loaded
    assert "gate-selector-bad" not in causes(say(interrupted(0x10, rsp=0x7E0F70)))


def test_a_gate_with_the_selector_of_cs_is_no_bad_gate(say: Say) -> None:
    found = causes(say(interrupted(0x8)))
    assert "gate-selector-bad" not in found and found["gdt-base-wrong"] == "possible"


def kvm(head: str, eip: int = 0x10_1000, esp: int = 0x9_0000, base: int = 0, code: str = "") -> str:
    """What QEMU prints when KVM can't go on: 16-bit code where CS has a base, else 32-bit."""
    cs = f"CS ={base >> 4:04x} {base:08x} 0000ffff 00009b00 DPL=0 CS16 [-RA]"
    flat = "CS =0008 00000000 ffffffff 00c09b00 DPL=0 CS32 [-RA]"
    dump = f"""\
EAX=00000001 EBX=00000002 ECX=00000003 EDX=00000004
ESI=00000005 EDI=00000006 EBP=00000007 ESP={esp:08x}
EIP={eip:08x} EFL=00010002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
{cs if base else flat}
SS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]
LDT=0000 00000000 0000ffff 00008200 DPL=0 LDT
TR =0000 00000000 0000ffff 00008b00 DPL=0 TSS32-busy
GDT=     00007000 0000003f
IDT=     00000000 0000ffff
CR0=00000011 CR2=00000000 CR3=00000000 CR4=00000000
EFER=0000000000000000
"""
    return head + dump + (f"Code={code}\n" if code else "")


CANNOT = "KVM internal error. Suberror: 1\nemulation failure\n"
DELIVERY = """\
KVM internal error. Suberror: 3
extra data[0]: 0x0000000080000b0e
extra data[1]: 0x00000000000000{reason}
extra data[2]: 0x0000000000000182
extra data[3]: 0x00000000000bcff0
"""


def test_kvm_is_not_blamed_for_a_cpu_that_left_its_code(say: Say) -> None:
    assert causes(say(kvm(CANNOT))) == {"hypervisor-cannot-emulate": "likely"}
    astray = {"executing-zeros": "likely"}
    assert causes(say(kvm(CANNOT, eip=0xA0000))) == astray
    zeros = " ".join(["af"] * 20 + ["<00>"] + ["00"] * 40)
    assert causes(say(kvm(CANNOT, eip=0x1000, esp=0, base=0x9F000, code=zeros))) == astray
    code = " ".join(["af"] * 20 + ["<0f>", "01", "c1"] + ["90"] * 40)
    for other in (code, "00 <00> <00> 00", "?? <00> 00", zeros.replace("<00>", "00")):
        assert "executing-zeros" not in causes(say(kvm(CANNOT, code=other)))


def test_a_state_that_kvm_refuses_is_an_end(say: Say) -> None:
    found = say(kvm("KVM: entry failed, hardware error 0x80000021\n\n"))
    assert causes(found) == {"hypervisor-cannot-emulate": "likely"}
    assert "KVM: entry failed" in found.explanation.headline


def test_kvm_met_a_device_where_a_frame_was_pushed(say: Say) -> None:
    violation, other = DELIVERY.format(reason="31"), DELIVERY.format(reason="20")
    assert causes(say(kvm(violation, esp=0x3D000))) == {"stack-outside-memory": "likely"}
    for text in (kvm(other, esp=0x3D000), kvm(violation, esp=0x3D800)):
        assert causes(say(text)) == {"hypervisor-cannot-emulate": "likely"}


UNKNOWN_OPCODE = (
    "ILLOPC: 0000000000201230: {}\n"
    "check_exception old: 0xffffffff new 0x6\n"
    "     0: v=06 e=0000 i=0 cpl=0 IP=0008:0000000000201230 pc=0000000000201230"
    " SP=0000:00000000007e0f60 env->regs[R_EAX]=0000000000000a14\n"
    + DUMP64.format(rcx=1, rsp=0x7E0F60)
)


def test_the_bytes_that_tcg_does_not_know(say: Say) -> None:
    assert causes(say(UNKNOWN_OPCODE.format("c4 e2 e9")))["instruction-unsupported"] == "likely"
    assert causes(say(UNKNOWN_OPCODE.format("0f"))) == {}  # cut: nothing is said of it


def test_a_dump_that_was_cut_is_still_one_of_64_bit_code(say: Say) -> None:
    text = UNKNOWN_OPCODE.format("c4 e2 e9")
    short = text[: text.index("GDT=")]
    assert causes(say(short))["instruction-unsupported"] == "likely"


def test_the_last_page_fault_of_a_death_without_record_is_possible(say: Say) -> None:
    assert causes(say(bochs(cr2=0xC0800000))) == {"shutdown-without-record": "possible"}
    held = bochs(cr2=0xC0800000).replace("EBX=00000022", "EBX=c0800000")
    assert causes(say(held))["pointer-unmapped"] == "possible"


def test_exceptions_that_qemu_logs_without_registers_came_in_real_mode(say: Say) -> None:
    line = "check_exception old: 0xffffffff new 0x6\n"
    timer = "Servicing hardware INT=0x08\n"
    assert causes(say((line * 3 + timer) * 8))["real-mode-fault-loop"] == "likely"
    assert "real-mode-fault-loop" not in causes(say((line * 3 + timer) * 2))


GDB = """\
(gdb) info registers
{w}ax            0x80000010          2147483664
{w}bx            0x10000             65536
{w}cx            0xc0000080          3221225600
{w}sp            0x7c00              0x7c00
{w}ip            0x7c63              0x7c63
eflags         0x6                 [ IOPL=0 PF ]
cs             0x0                 0
cr0            0x{cr0:x}            [ PG ET ]
cr2            0x0                 0
cr3            0x103000            [ PDBR=259 PCID=0 ]
cr4            0x20                [ PAE ]
efer           0x500               [ LMA LME ]
"""


@pytest.mark.parametrize("width", "re")
def test_what_gdb_shows_of_registers_is_read(say: Say, width: str) -> None:
    wrong = say(GDB.format(w=width, cr0=0x80000010))
    assert causes(wrong) == {"paging-without-protection": "possible"}
    assert any("monitor info registers" in note for note in wrong.explanation.notes)
    assert causes(say(GDB.format(w=width, cr0=0x80000011))) == {}


def test_the_source_of_a_mail_is_read(say: Say) -> None:
    text = kvm(CANNOT, eip=0xA0000)
    mail = text.replace("=", "=3D").replace("SMM=3D0", "SM=\nM=3D0")
    assert causes(say(mail)) == causes(say(text)) == {"executing-zeros": "likely"}


def test_a_storm_that_ended_in_a_shutdown_each_time_is_none(say: Say) -> None:
    one = "check_exception old: 0xffffffff new 0xd\n"
    life = (
        one + "check_exception old: 0xd new 0xd\ncheck_exception old: 0x8 new 0xd\nTriple fault\n"
    )
    assert "real-mode-fault-loop" not in causes(say(life * 20))


RECORD = "check_exception old: 0xffffffff new 0x{vector:x}\n     0: v={vector:02x} e={code:04x} i=0"
RECORD += " cpl={cpl} IP=0008:0000000000201230 pc=0000000000201230\n"
RECORD += "        SP=0010:00000000007e0f60 {last}\n"


@pytest.mark.parametrize(
    "address, code, cpl, certainty",
    [
        (0xB8F00, 2, 0, "likely"),
        (0xA0000, 0, 0, "likely"),
        (0xB8F00, 3, 0, None),
        (0xB8F00, 6, 3, None),
        (0xC0000, 2, 0, None),
    ],
)
def test_the_screen_is_not_mapped(
    say: Say, address: int, code: int, cpl: int, certainty: Optional[str]
) -> None:
    text = RECORD.format(vector=14, code=code, cpl=cpl, last=f"CR2={address:016x}")
    assert causes(say(text)).get("mmio-unmapped") == certainty


def raised(vector: int) -> str:
    """A benign exception without an IDT: #GP, #DF and the shutdown follow."""
    dump = kvm("", eip=0x201230, esp=0x7E0F60)
    last = "env->regs[R_EAX]=0000000000000001"
    chain = ((vector, 0), (13, vector * 8 + 2), (8, 0))
    records = "".join(RECORD.format(vector=v, code=c, cpl=0, last=last) + dump for v, c in chain)
    records = records.replace("old: 0xffffffff new 0x8", "old: 0xd new 0xd")
    return records + "check_exception old: 0x8 new 0xd\nTriple fault\n"


def test_no_compiler_makes_the_instruction_that_raises_br(say: Say) -> None:
    assert causes(say(raised(5)))["no-code-at-rip"] == "likely"
    assert "no-code-at-rip" not in causes(say(raised(4)))


@pytest.mark.parametrize(
    "idt, certainty",
    [("00105120 000007ff", "possible"), ("00105120 0000002f", None), ("00000000 000003ff", None)],
)
def test_the_error_code_refuses_the_exceptions_own_gate(
    say: Say, idt: str, certainty: Optional[str]
) -> None:
    text = raised(6).replace("IDT=     00000000 0000ffff", f"IDT=     {idt}")
    assert causes(say(text)).get("gate-empty") == certainty


def test_a_gate_that_bochs_refuses_is_possible_and_no_more(say: Say) -> None:
    found = causes(say(bochs("interrupt(): gate.type(9) != {5,6,7,14,15}")))
    assert found["gate-empty"] == "possible"


@pytest.mark.parametrize("flags", ["IOPL=0 id vip vif ac vm RF nt of df {} tf", "EFLAGS={}: x"])
def test_an_interrupt_came_where_no_exception_can(say: Say, flags: str) -> None:
    jump, load = "unk. ctxt): jmp .-2 ; ebfe", "unk. ctxt): mov eax, [ebx] ; 8b03"
    on, off = ("00000202", "00000002") if "EFLAGS" in flags else ("IF tf sf zf", "if tf sf zf")
    plain = "IOPL=0 id vip vif ac vm RF nt of df if tf"

    def dead(disassembled: str, value: str, cr2: int = 0) -> dict[str, str]:
        text = bochs(cr2=cr2, disassembled=disassembled).replace(plain, flags.format(value))
        return causes(say(text))

    assert dead(jump, on)["interrupt-without-gate"] == "likely"
    for other in (dead(jump, off), dead(load, on), dead(jump, on, cr2=0x1234)):
        assert "interrupt-without-gate" not in other


def test_the_instruction_of_the_death_is_the_one_that_is_told(say: Say) -> None:
    later = "(0).[90000000] [0x0000000f1234] f000:0000000000001234 (unk. ctxt): hlt ; f4\n"
    found = say(bochs(disassembled="unk. ctxt): nop ; 90") + later)
    assert any("Bochs disassembled: nop" in note for note in found.explanation.notes)
