# SPDX-License-Identifier: BSD-2-Clause
"""A page fault explained: what was accessed, and the level of the tables that refused it.

[SDM 3A "Interrupt 14—Page-Fault Exception (#PF)"]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from debug.evidence import Registers
from debug.explain.context import Machine
from debug.explain.findings import LongModeMissing, PageFault, Role
from debug.x86.accesses import accesses
from debug.x86.decode import decode_many
from debug.x86.exceptions import PageFaultCode, describe_page_fault
from debug.x86.instruction import (
    ImmediateOperand,
    Instruction,
    Kind,
    MemoryOperand,
    RegisterOperand,
)
from debug.x86.linear import tables_of
from debug.x86.modes import PagingMode, code_width, mode_of, paging_mode_of, privilege
from debug.x86.page_entries import Reason
from debug.x86.paging import Access, Walk, translate
from debug.x86.registers import Cr0, Cr4, Efer, register_value

_NEAR_STACK = 4096  # a stack access lies within this of RSP
_DEPTH = {"PML5": 5, "PML4": 4, "PDPT": 3, "PD": 2, "PT": 1}


def page_fault(
    machine: Machine,
    cpu: Optional[int],
    registers: Registers,
    address: int,
    error_code: Optional[int],
    instruction: Optional[Instruction],
    derived: bool = False,
) -> PageFault:
    """The fault at linear `address` with the walk that led to it."""
    rip = machine.pc(registers)
    code = PageFaultCode(error_code or 0)
    fetch = bool(code & PageFaultCode.I) or address == rip
    write, role = _how(registers, address, error_code, instruction, fetch)
    user = bool(code & PageFaultCode.U) or error_code is None and privilege(registers) == 3
    access = Access(write=write, user=user, fetch=fetch)
    walk = machine.linear(registers).walk(address, access)
    found = PageFault(
        cpu,
        address,
        role,
        write,
        user,
        _reason(error_code, bool((registers.get("efer") or 0) & Efer.NXE)),
        "",
        0,
        None,
        _without_walk(error_code),
        registers.get("cr3"),
        rip,
        registers.get("rsp"),
        instruction.text if instruction is not None and not fetch else "",
        _register(registers, instruction, address, fetch),
        derived=derived,
        after_paging=fetch and _after_mov_cr0(machine, rip),
    )
    return found if walk is None else _with_walk(found, walk, error_code)


def _after_mov_cr0(machine: Machine, rip: Optional[int]) -> bool:
    """Whether a MOV to CR0 ends at `rip`: there linear and physical addresses were still equal."""
    data = machine.physical(rip - 3, 3) if rip is not None and rip >= 3 else None
    return data is not None and data[:2] == b"\x0f\x22" and data[2] & 0xF8 == 0xC0


def _how(
    registers: Registers,
    address: int,
    error_code: Optional[int],
    instruction: Optional[Instruction],
    fetch: bool,
) -> tuple[bool, Role]:
    """(it was a write, what the address was to the CPU)."""
    if fetch:
        return False, Role.FETCH
    write = bool((error_code or 0) & PageFaultCode.W)
    if instruction is not None:
        for access in accesses(instruction, registers):
            if access.linear is not None and access.linear <= address < access.linear + access.size:
                if error_code is None:
                    write = access.write
                stack = access.what in ("push", "pop")
                if not stack and access.segment == "ss":
                    stack = _near_stack(registers, address)
                return write, Role.STACK if stack else Role.DATA
    for role, base, limit in _tables(registers):
        if base <= address <= base + limit:
            return write, role
    if _near_stack(registers, address) and write:
        return write, Role.STACK
    return write, Role.DATA


def _near_stack(registers: Registers, address: int) -> bool:
    rsp = registers.get("rsp")
    return rsp is not None and abs(rsp - address) <= _NEAR_STACK


def _tables(registers: Registers) -> list[tuple[Role, int, int]]:
    found = []
    if registers.gdtr is not None and registers.gdtr.limit < 0xFFFF:
        found.append((Role.GDT, registers.gdtr.base, registers.gdtr.limit))
    if registers.idtr is not None and registers.idtr.base:
        found.append((Role.IDT, registers.idtr.base, registers.idtr.limit))
    task = registers.segments.get("tr")
    if task is not None and task.selector & 0xFFFC and task.base:
        found.append((Role.TSS, task.base, task.limit))
    return found


def _register(
    registers: Registers, instruction: Optional[Instruction], address: int, fetch: bool
) -> str:
    """The register that held the address, where one did exactly (or its base)."""
    if fetch or instruction is None:
        return ""
    for operand in instruction.operands:
        if isinstance(operand, MemoryOperand) and operand.base not in ("", "rip", "eip"):
            value = register_value(registers, operand.base)
            near = value is not None and abs(value - address) <= 1 << 16
            return operand.base if near else ""
    if instruction.kind in (Kind.NEAR_CALL, Kind.NEAR_RETURN) or instruction.mnemonic in (
        "push",
        "pop",
    ):
        return "rsp"
    return ""


def _without_walk(error_code: Optional[int]) -> str:
    if error_code is not None:
        return describe_page_fault(error_code)
    return "the page tables could not be read"


def _reason(error_code: Optional[int], nxe: bool) -> Optional[Reason]:
    """What the error code alone proves, where the tables can't be walked."""
    if error_code is None:
        return None
    code = PageFaultCode(error_code)
    if code & PageFaultCode.RSVD:
        return Reason.RESERVED_BIT if nxe else None  # with NXE=0 bit 63 is a reserved bit too
    if not code & PageFaultCode.P:
        return Reason.NOT_PRESENT
    if code & PageFaultCode.W and not code & PageFaultCode.U:
        return Reason.WRITE_PROTECTED
    if code & PageFaultCode.U and not code & (PageFaultCode.W | PageFaultCode.I):
        return Reason.USER_SUPERVISOR
    return None


def _with_walk(found: PageFault, walk: Walk, error_code: Optional[int]) -> PageFault:
    fault = walk.fault
    if fault is None:
        if walk.mode is PagingMode.NONE:
            return replace(found, paging=False)
        return replace(
            found, walk_succeeds=True, reason=None, sentence="the tables, as they are now, allow it"
        )
    if fault.reason is Reason.UNREADABLE:
        return found if error_code is not None else replace(found, sentence=fault.sentence)
    last = next((entry for entry in walk.entries if entry.level == fault.level), None)
    if walk.entries and last is None:
        last = walk.entries[-1]
    return replace(
        found,
        reason=fault.reason,
        level=last.name if last is not None else fault.level,
        depth=_DEPTH.get(fault.level, 0),
        entry=last.raw if last is not None else None,
        sentence=fault.sentence,
    )


def details(found: PageFault) -> tuple[str, ...]:
    """The lines below the headline."""
    if found.cr3 is None or not found.level:
        return (found.sentence,) if found.reason is not None and found.derived else ()
    return (f"CR3 {found.cr3:#x} → {found.sentence}",)


def headline(found: PageFault) -> str:
    """`#PF write to 0xffffffff7ffffff8: not present`."""
    why = found.reason.value if found.reason is not None else found.sentence
    return f"#PF {found.access} {found.address:#x}: {why}"


def long_mode_missing(
    machine: Machine, cpu: Optional[int], registers: Registers, as_bsp: bool = False
) -> tuple[LongModeMissing, ...]:
    """EFER.LME=0 with paging on, where the code looks as if it wanted long mode.

    It wanted it if the instruction is mapped by the same CR3 walked with four levels, or the BSP is
    in long mode with that CR3 (`as_bsp`): then RIP may be anywhere.
    """
    values = [registers.get(name) for name in ("cr0", "cr3", "cr4", "efer")]
    cr0, cr3, cr4, efer = values
    if cr0 is None or cr3 is None or cr4 is None or efer is None:
        return ()
    if not cr0 & Cr0.PG or efer & (Efer.LME | Efer.LMA):
        return ()
    if not machine.has_memory and not machine.traced:
        return ()  # 32-bit and PAE paging are no mistake by themselves
    mode, at = paging_mode_of(registers), machine.pc(registers)
    tables = tables_of(registers)
    if mode is None or at is None or tables is None or mode_of(registers).long:
        return ()
    as_long = replace(
        tables, cr4=cr4 | int(Cr4.PAE), efer=efer | int(Efer.LME | Efer.LMA | Efer.NXE)
    )
    walk = translate(machine.evidence.memory, as_long, at, Access(fetch=True))
    mapped = walk.physical is not None and bool(machine.physical(walk.physical, 1))
    mapped = mapped and not _made_for_pae(machine, walk)
    if not (mapped or as_bsp or machine.traced):
        return ()  # a kernel of 32 bits
    known = machine.cpu(cpu)
    model = known.long_mode if known is not None else None
    vain = _lme_written(machine, registers, at)
    pae = bool(cr4 & Cr4.PAE)
    return (LongModeMissing(cpu, cr3, efer, pae, mapped, as_bsp, model, vain),)


def _made_for_pae(machine: Machine, walk: Walk) -> bool:
    """Whether the first two levels of this walk are a PDPT and a page directory.

    R/W is reserved in what PAE's CR3 names, and set in every PML4 that is of use; pages of a page
    directory lie 2 MiB apart.
    """
    top, leaf = walk.entries[0], walk.entries[-1]
    if not top.raw & 2:
        return True
    beside = machine.physical(leaf.address + 8, 8) if leaf.level == "PDPT" and leaf.large else None
    if beside is None:
        return False
    return (int.from_bytes(beside, "little") & _PAGES) - (leaf.raw & _PAGES) == _LARGE


_LARGE = 1 << 21
_PAGES = 0x000F_FFFF_FFE0_0000  # where an entry has the address of a page of 2 MiB
_SWITCH = 128  # bytes of code from WRMSR to where paging is on
_ECX_EFER = b"\xb9\x80\x00\x00\xc0"  # mov ecx, 0xc0000080


def _lme_written(machine: Machine, registers: Registers, at: int) -> Optional[int]:
    """Where straight code before `at` writes EFER with LME=1; None if none is seen."""
    width, start = code_width(registers), max(at - _SWITCH, 0)
    code = machine.physical(start, at - start) or b""
    first = code.rfind(_ECX_EFER)
    if first < 0 or width not in (16, 32, 64):
        return None
    wanted = False
    for one in decode_many(code[first:], start + first, width, len(code) - first):
        if one.kind is Kind.WRMSR:
            return one.address if wanted else None
        to = one.operands[0] if one.operands else None
        value = one.operands[-1] if one.operands else None
        if not isinstance(to, RegisterOperand) or not isinstance(value, ImmediateOperand):
            continue
        bit = 1 << value.value % 32 if one.mnemonic == "bts" else value.value
        if one.mnemonic in ("or", "bts", "mov"):
            wanted |= to.name == "eax" and bool(bit & Efer.LME)
            wanted |= to.name == "ah" and bool(bit << 8 & Efer.LME)
    return None
