# SPDX-License-Identifier: BSD-2-Clause
"""How a Bochs came to its end, from its log and how its process ended.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from debug.evidence import Ending
from debug.sources.bochs_log import LogReader
from debug.sources.bochs_messages import last_words
from debug.sources.qemu_ending import NOT_STARTED


@dataclass(frozen=True)
class End:
    """Why nobody watches any longer."""

    ending: Ending
    exit_code: Optional[int] = None
    messages: tuple[str, ...] = ()


MUTE = End(
    Ending.EMULATOR_DIED,
    messages=(
        "Bochs's debugger did not answer: is it built with --enable-debugger, and does nothing in its"
        " configuration wait for somebody to connect?",
    ),
)
UNBUILT = End(
    Ending.EMULATOR_DIED,
    messages=(f"Bochs {NOT_STARTED} it can't put together what the configuration asks for",),
)
NOTHING_TO_BOOT = "the BIOS found nothing to boot"


def logged(reader: LogReader) -> Optional[End]:
    """The machine's end, as the log tells it so far."""
    if reader.death is not None:
        return End(Ending.TRIPLE_FAULT)
    if reader.reset_seen:
        return End(Ending.RESET)
    return None


def gone(code: Optional[int], errors: bytes, shutdown_port: bool) -> End:
    """Its process ended, with this code and these words; None: it only closed its output."""
    if shutdown_port:
        return End(Ending.EXITED, code, ("the guest wrote Shutdown to port 0x8900",))
    said = last_words(errors)
    if code is None:
        return End(Ending.EMULATOR_DIED, messages=("Bochs closed its output", *said))
    ended = f"by signal {-code}" if code < 0 else f"with code {code}"
    return End(Ending.EMULATOR_DIED, code, (f"Bochs ended {ended}", *said))


def refused(end: End) -> End:
    """The end of a Bochs that never came to its first prompt."""
    if end.ending is not Ending.EMULATOR_DIED or end.exit_code is None or end.exit_code < 0:
        return end
    first = f"Bochs {NOT_STARTED} it ended with code {end.exit_code}"
    return replace(end, messages=(first, *end.messages[1:]))
