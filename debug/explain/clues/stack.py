# SPDX-License-Identifier: BSD-2-Clause
"""What the stack pointer, CR2 and the error code prove about stacks and the TSS.

[SDM 3A "Stack Usage on Transfers to Interrupt and Exception-Handling Routines", "Interrupt
14-Page-Fault Exception (#PF)"]
"""

from __future__ import annotations

import re
from typing import Iterator, Optional

from debug.evidence import EventKind, Registers
from debug.explain.clues.moment import PAGE, Moment
from debug.explain.findings.evident import Clue, Evident, Proof
from debug.explain.model import EMULATOR_SAYS
from debug.x86.exceptions import BP, DF, UD, PageFaultCode
from debug.x86.modes import Mode

_P, _W, _U = int(PageFaultCode.P), int(PageFaultCode.W), int(PageFaultCode.U)
_BOOT_CODE_END = 0x100000  # below, small programs keep their stack beside their code
_IN_CODE = 256  # bytes
_LAST_PAGES = 0xFFFF_E000  # of 4 GiB: no stack is put there
_FRAMES = 16 * PAGE  # a frame is smaller
_DEEP = 3  # interrupts inside one another
_REGION = re.compile(r"(?:PML5|PML4|PDPTE?|PDE)\b[^;]*not present")  # not a single page's entry
_HIGH = {Mode.LONG64: 0xFFFF_8000_0000_0000, Mode.PROTECTED32: 0xC000_0000}  # the kernel's half
_LOADERS = 0x0100_0000  # boot loaders and 32-bit start-up code have their stacks below 16 MiB
_PROTECTED = (Mode.PROTECTED32, Mode.PROTECTED16, Mode.COMPAT32, Mode.COMPAT16, Mode.LONG64)


def findings(moment: Moment) -> Iterator[Evident]:
    """The facts about stacks, most telling first."""
    for one in (
        _no_tss(moment),
        _tss_unmapped(moment),
        _stack_of_tss(moment),
        _wrapped(moment),
        _popped(moment),
        *_push(moment),
        _in_code(moment),
    ):
        if one is not None:
            yield one


def _no_tss(moment: Moment) -> Optional[Evident]:
    """CPL 3 with TR null: nothing can be delivered to ring 0."""
    task = moment.registers.segments.get("tr")
    if moment.mode not in _PROTECTED or task is None or moment.cpl != 3:
        return None
    if task.selector & 0xFFFC or task.base:
        return None
    lines = (
        "TR is null at CPL 3: no exception and no interrupt can be delivered, since the stack for"
        " the handler stands in the TSS",
    )
    return Evident(moment.cpu, Clue.NO_TSS, Proof.ALONE, lines)


def _implicit_at_user(moment: Moment) -> bool:
    """A page fault at CPL 3 by an access with supervisor rights: the CPU's own."""
    return moment.page_fault and moment.cpl == 3 and moment.error(_U) is False


def _in(registers: Registers, address: int) -> bool:
    """Whether the address lies in the GDT, LDT, IDT or TSS, as far as they are known."""
    ranges = [(t.base, t.limit) for t in (registers.gdtr, registers.idtr) if t is not None]
    for name in ("tr", "ldt"):
        held = registers.segments.get(name)
        if held is not None and held.selector & 0xFFFC:
            ranges.append((held.base, max(held.limit, 0x67)))
    return any(base <= address <= base + limit for base, limit in ranges)


def _tss_unmapped(moment: Moment) -> Optional[Evident]:
    if moment.cpl != 3 or moment.error(_W) or moment.fetch:
        return None
    if moment.vector is None and not moment.first and moment.get("cr2"):
        return _probably_tss(moment, moment.get("cr2") or 0)  # of the last page fault there was
    if moment.address is None:
        return None
    task = moment.registers.segments.get("tr")
    if task is not None and task.selector & 0xFFFC:
        offset = moment.address - task.base
        if 0 <= offset < 0x68 and moment.error(_U) is not True:
            line = f"CR2 {moment.address:#x} is TR's base + {offset:#x}, in the TSS"
            return Evident(moment.cpu, Clue.TSS_UNMAPPED, Proof.ALONE, (line,))
        return None
    return _probably_tss(moment, moment.address)


def _probably_tss(moment: Moment, address: int) -> Optional[Evident]:
    """TR is not known: only what is left.

    At CPL 3, a page fault that nothing resolves is one of the CPU's own: of the IDT, the GDT, the
    TSS or the new stack.  The GDT was read under these tables when ring 3 was entered, a push ends
    below a multiple of 16, and gates 8 and 14 lie at multiples of 16 of an aligned IDT.
    """
    rsp = moment.get("rsp")
    if moment.first or rsp is None or moment.mode is Mode.LONG64:
        return None
    if address % 16 not in (4, 8) or abs(rsp - address) < PAGE:
        return None
    line = (
        f"at CPL 3 the last access of the delivery was to {address:#x}: no gate of an aligned IDT"
        f" and no push lies there, but SS0 of a TSS at {address - 8:#x}"
        if address % 16 == 8
        else f"at CPL 3 the last access of the delivery was to {address:#x}: ESP0 of a TSS at"
        f" {address - 4:#x}"
    )
    return Evident(
        moment.cpu, Clue.TSS_UNMAPPED, Proof.FITS if moment.died else Proof.HINT, (line,)
    )


def _stack_of_tss(moment: Moment) -> Optional[Evident]:
    """The first push to the stack of the TSS failed."""
    if not _implicit_at_user(moment) or not moment.error(_W) or moment.address is None:
        return None
    if _in(moment.registers, moment.address):
        return None
    top = moment.address + moment.slot & moment.mask
    lines = [
        f"a push with supervisor rights at CPL 3 faulted at {moment.address:#x}: the CPU was"
        " switching to the stack that the TSS names"
    ]
    if top == 0:
        lines.append("CR2 is the last slot of the address space: ESP0 in the TSS is 0")
    else:
        lines.append(f"the stack of the TSS ends at {top:#x}, which is not mapped")
    if moment.delivering is not None:
        lines.append(f"it happened while vector {moment.delivering:#x} was being delivered")
    return Evident(moment.cpu, Clue.STACK_OF_TSS, Proof.ALONE, tuple(lines))


def _wrapped(moment: Moment) -> Optional[Evident]:
    """A stack at the very end of the address space began at 0."""
    rsp, address = moment.get("rsp"), moment.address
    if moment.mode not in (Mode.PROTECTED32, Mode.LONG64) or rsp is None or address is None:
        return None
    below = rsp - address & moment.mask
    if not 0 < below <= 64 or moment.error(_W) is False or moment.cpl != 0:
        return None
    if rsp == 0:
        line = f"{moment.shown('rsp')} is 0 and the push faulted at {address:#x}"
        return Evident(moment.cpu, Clue.STACK_ZERO, Proof.ALONE, (line,))
    if rsp < _LAST_PAGES or moment.mode is Mode.LONG64:
        return None
    lines = (
        f"ESP {rsp:#x} lies in the last pages of the address space: a stack that began at 0 and"
        " wrapped",
        "that is the stack after a switch to ring 0 with ESP0 = 0 in the TSS, or one never set",
    )
    return Evident(moment.cpu, Clue.STACK_OF_TSS, Proof.FITS, lines)


def _popped(moment: Moment) -> Optional[Evident]:
    """The stack pointer stands in the interrupt vector table, and registers hold its entries."""
    rsp = moment.get("rsp")
    if rsp is None or rsp > 0x400 or moment.mode not in _PROTECTED:
        return None
    values = [name for name, value in moment.general() if value >> 16 == 0xF000]
    rip = moment.get("rip") or 0
    if not values or rip >> 16 not in (0xF000, 0):
        return None
    names = ", ".join(moment.shown(name) for name in values)
    lines = (
        f"the stack pointer is {rsp:#x}, and {names} hold entries of the interrupt vector table:"
        " the registers were popped from address 0",
        "the stack pointer that was switched to was 0",
    )
    return Evident(moment.cpu, Clue.STACK_ZERO, Proof.FITS, lines)


def _push(moment: Moment) -> Iterator[Evident]:
    """A page fault right below the stack pointer, or in the frame above it."""
    rsp, address = moment.get("rsp"), moment.address
    if rsp is None or address is None or not moment.page_fault or moment.error(_P):
        return
    if moment.error(_W) is False or moment.fetch:
        return
    local = rsp <= address < rsp + PAGE and rsp // PAGE == address // PAGE
    if not 0 < rsp - address <= 64 and not local:
        return
    if moment.mode is Mode.PROTECTED32 and rsp >= _LAST_PAGES:
        return  # it wrapped
    user = moment.cpl == 3 and moment.error(_U) is not False
    clue = Clue.USER_STACK_UNMAPPED if user else Clue.STACK_UNMAPPED
    name = moment.shown("rsp")
    what = "write to the frame" if local else "push"
    line = f"the {what} at {name} {rsp:#x} faulted at {address:#x}: not present"
    region = next((word for word in moment.words if _REGION.search(word)), None)
    if region is not None:
        lines = (line, f'{EMULATOR_SAYS} "{region}": more than a page is missing there')
        yield Evident(moment.cpu, clue, Proof.FITS, lines)
        return
    above = _used_above(moment, rsp)
    if above is not None:
        deep = (f"the stack was in use up to {above:#x} just above: it ran out",)
        yield Evident(moment.cpu, Clue.STACK_DRAINED, Proof.FITS, (line, *deep))
        nested = _nested(moment)
        if nested is not None:
            yield nested
        return
    framed = _framed(moment, rsp, address, local)
    if framed:
        yield Evident(moment.cpu, Clue.STACK_DRAINED, Proof.FITS, (line, framed))
        return
    if user and all(value == 0 for _, value in moment.general()):
        fresh = "every other general register is 0: the program had only just begun"
        yield Evident(moment.cpu, clue, Proof.FITS, (line, fresh))
        return
    if left_behind := _left_behind(moment, rsp):
        yield Evident(moment.cpu, clue, Proof.FITS, (line, left_behind))
        return
    edge = f"the page of {name} begins there: an empty stack that is not mapped, or a full one"
    if rsp % PAGE and rsp // PAGE == address // PAGE:
        cr3 = moment.get("cr3")
        same = [moment.shown(held) for held, value in moment.general() if cr3 and value == cr3]
        if same:
            now = f"{same[0]} still holds CR3's value: the tables have only just been switched"
            yield Evident(moment.cpu, clue, Proof.FITS, (line, now))
            return
        edge = (
            f"{name} itself lies in the page that is not mapped: a stack that never was, or a full"
            " one below which a function has just made its frame"
        )
    yield Evident(moment.cpu, clue, Proof.HINT, (line, edge))
    yield Evident(moment.cpu, Clue.STACK_DRAINED, Proof.HINT, (line, edge))


def _framed(moment: Moment, rsp: int, address: int, local: bool) -> str:
    """What shows that the stack was in use further up, where it must have been mapped; "" if nothing.

    A function's first instructions push RBP and copy RSP there.
    """
    rbp = moment.get("rbp") or 0
    if rsp < rbp < rsp + _FRAMES and rbp // PAGE > address // PAGE and rbp % PAGE:
        if not rbp % moment.slot:
            return (
                f"{moment.shown('rbp')} {rbp:#x}, where a function has pushed its caller's, lies in a"
                " page above: the stack ran out of it"
            )
    if local:
        return (
            "no push faulted before: what called this function has put its return address higher"
            " up, where the stack is mapped"
        )
    return ""


def _left_behind(moment: Moment, rsp: int) -> str:
    """That the kernel's half executes, on a stack at a loader's low address; "" if it is not so.

    Below a low stack that grew too far lies memory of the same identity map: it does not fault.
    """
    rip = moment.get("rip") or 0
    half = _HIGH[moment.mode] if moment.mode in _HIGH else None
    if half is None or moment.cpl != 0 or rip < half or rsp >= _LOADERS:
        return ""
    return (
        f"the kernel's half executes ({rip:#x}), and the stack is still at a low address, as before"
        " the switch: these tables do not map it"
    )


def _used_above(moment: Moment, rsp: int) -> Optional[int]:
    """The highest stack pointer of an earlier event of this CPU within the page above."""
    seen = []
    for event in moment.before[-16:]:
        other = event.registers.get("rsp")
        if other is not None and rsp < other <= rsp + PAGE and event.registers.cpl == moment.cpl:
            seen.append(other)
    return max(seen, default=None)


def _nested(moment: Moment) -> Optional[Evident]:
    """Interrupts that came at the kernel's level, each deeper in the stack than the one before."""
    depths: list[int] = []
    vectors = set()
    for event in reversed(moment.before):
        depth = event.registers.get("rsp")
        if event.kind is not EventKind.HARDWARE_INTERRUPT or depth is None:
            break
        if event.registers.cpl != 0 or (depths and depth <= depths[-1]):
            break
        depths.append(depth)
        vectors.add(event.vector)
    if len(depths) < _DEEP:
        return None
    names = ", ".join(f"{vector:#x}" for vector in sorted(vectors))
    line = (
        f"{len(depths)} interrupts ({names}) came one inside the other, at stack pointers from"
        f" {depths[-1]:#x} down to {depths[0]:#x}"
    )
    return Evident(moment.cpu, Clue.INTERRUPTS_NEST, Proof.FITS, (line,))


def _in_code(moment: Moment) -> Optional[Evident]:
    """RIP lies in what the stack holds: right above the stack pointer."""
    rsp, rip = moment.get("rsp"), moment.get("rip")
    if rsp is None or rip is None or moment.mode not in (Mode.PROTECTED32, Mode.LONG64):
        return None
    if rip < _BOOT_CODE_END or not 0 <= rip - rsp < _IN_CODE or moment.page_fault:
        return None
    lines = (
        f"RIP {rip:#x} is {rip - rsp} bytes above the stack pointer {rsp:#x}: the stack reaches"
        " into the code, or code runs on the stack",
    )
    odd = moment.vector in (UD, BP, DF) or not moment.first
    return Evident(moment.cpu, Clue.STACK_IN_CODE, Proof.FITS if odd else Proof.HINT, lines)
