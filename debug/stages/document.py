# SPDX-License-Identifier: BSD-2-Clause
"""docs/stage-codes.md: the stage protocol and its table, for people."""

from __future__ import annotations

from debug.stages.checksum import checksum, encode
from debug.stages.model import GROUPS, MODE_MEANING, MODES, StageTable

_EXAMPLE = (3, 0x60, None, 12)


def _introduction(notice: str) -> str:
    apic_id, code, argument, sequence = _EXAMPLE
    frame = encode(apic_id, code, argument, sequence).decode("ascii").rstrip("\n")
    body = frame[1 : frame.index("*")]
    modes = "\n".join(
        f"| `{mode}` | {number} | {MODE_MEANING[mode]} |" for mode, number in MODES.items()
    )
    return f"""<!-- SPDX-License-Identifier: BSD-2-Clause -->
<!-- {notice} -->
# Stage codes

A CPU on its way from reset to C lights a lamp at every step: it writes one *stage*, a byte, to
port 0xE9, to COM1 and to a record in memory. `lamppost stages FILE` decodes all three.

## Frames

A frame is one line of ASCII text:

    @ APIC : STAGE [ = ARGUMENT ] . SEQUENCE * SUM newline        {frame}

| part | digits | meaning |
| --- | --- | --- |
| `APIC` | 2 to 8 | APIC ID of the CPU that speaks: 2 digits below 100, else 8 |
| `STAGE` | 2 | the stage, from the tables below |
| `ARGUMENT` | 1 to 8 | only where the stage's sentence describes one |
| `SEQUENCE` | 1 | this CPU's frames, counted modulo 16 from 0; `-` from the drop-in kit where it keeps no count |
| `SUM` | 2 | guards the characters between `@` and `*` |

All digits are hexadecimal, lower case. The sum starts with 0; for each character it is rotated
left by one bit (8 bits wide) and XORed with the character: `{body}` gives `{checksum(body.encode()):02x}`.

Console text doubles each `@`, so a single `@` always begins a frame, also in the middle of a
line. Carriage returns before the newline and in console text are ignored.

A frame is sent whole, under a lock. A CPU that is stopped inside a frame loses the lock after a
deadline: its frame is then torn, and the rest of it may appear later, between other frames. The
decoder reports

| damage | what it saw |
| --- | --- |
| `torn` | the beginning of a frame, and then something else |
| `bad-sum` | a frame whose characters do not match its sum |
| `lost` | a step in a CPU's sequence: at least so many frames are missing (modulo 16) |
| `orphan` | the end of a frame whose beginning is missing |
| `unterminated` | a frame with a right sum but without its newline; it is used |
| `doubtful` | `@@` before what fits as the next frame: console text, or a frame after a torn `@` |

and puts a torn frame together again where head and tail fit by grammar, sum and sequence. The sum
changes with any single character. Random damage passes it once in 256 times, two wrong digits in
a long frame once in 75; the same bit wrong in two characters eight apart always passes. A loss of
exactly 16 frames of one CPU, or of its last ones, leaves no gap. Both show against the record in
memory, from which whatever is missing in the stream is restored.

## The record in memory

All values are little endian; offsets and sizes are in bytes. The control block lies at a 64-byte
boundary in the first MiB, where its magic finds it; `trace_control` in the kernel points at it.

| control | size | |
| --- | --- | --- |
| 0 | 8 | magic `LAMPTRC1` |
| 8 | 4 | lock: low 16 bits owner's slot + 1, 0 when free; high 16 bits generation |
| 12 | 4 | sinks: 1 port 0xE9, 2 COM1, 4 memory |
| 16 | 8 | TSC cycles after which a lock that did not move is stolen |
| 24 | 4 | how often it was stolen |
| 28 | 4 | slots there are |
| 32 | 4 | real-mode segment of the slot that the next CPU claims; slot 0 is the BSP's |
| 36 | 4 | distance from one slot to the next |
| 40 | 8 | physical address of slot 0 |
| 48 | 4 | real-mode segment of what follows the slots |

| slot | size | |
| --- | --- | --- |
| 0 | 4 | APIC ID, ffffffff while nobody claimed the slot |
| 4 | 4 | entries ever written |
| 8 | 8 | physical address of the entries |
| 16 | 4 | capacity: entry *i* lies at index *i* modulo capacity |
| 20 | 1 | length of the frame's constant first part |
| 21 | 1 | sum over that part |
| 22 | 1 | length of the frame |
| 24 | 32 | text of the last frame |

| entry | size | |
| --- | --- | --- |
| 0 | 8 | time stamp counter |
| 8 | 4 | argument |
| 12 | 1 | stage |
| 13 | 1 | bit 0: the argument counts |
| 14 | 2 | low 16 bits of the entry's number; its low 4 bits are the frame's sequence |

Where the sinks are memory alone (`trace=mem`), a stage is only *stamped*: a CPU writes the time
and whatever of the entry is not known before, and leaves the count as it is. The number stands in
every entry from the start, and so does the stage in those that every AP fills on its way to work.
Until the ring is full, an entry behind the count is therefore written when its time is not 0, and
one without a time before it was passed by; with a full ring the count is kept as usual. A stage in
memory costs an AP three instructions in the trampoline and five in C on its way to work; elsewhere
in C it costs eight, and one more for an argument.

## In the ELF file

`.lamppost.stages` holds the table below as text, one line a stage: code, name, mode and the two
sentences, separated by tabs. `.lamppost.sites` lists the places that emit stages: 16 bytes each,
address (8), stage (1), mode (1), six zeros. An address below 0x1000 is an offset into the
trampoline page. Neither section is loaded.

| mode | in the list of sites | |
| --- | --- | --- |
{modes}

Codes 00 to 0f and f0 to ff are not used, so that a run of zeros or ones is never a stage."""


def render(table: StageTable, notice: str) -> str:
    """The document's text."""
    parts = [_introduction(notice)]
    for digit, title in GROUPS.items():
        stages = [stage for stage in table.stages if stage.code >> 4 == digit]
        if not stages:
            continue
        rows = [
            f"| `{s.code:02x}` | `{s.name}` | {s.mode} | {_cell(s.became)} | {_cell(s.needs)} |"
            for s in sorted(stages, key=lambda stage: stage.code)
        ]
        head = ["| code | name | mode | what has become true | what the next step needs |"]
        parts.append("\n".join([f"## {digit:x}x: {title}", "", *head, "|" + " --- |" * 5, *rows]))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[]", "\\[\\]")
