# SPDX-License-Identifier: BSD-2-Clause
"""How a QEMU came to its end, from what it said and how its process ended.  Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from debug.evidence import Ending, Evidence

# Run states in which QEMU itself stopped the machine: KVM could not go on, or a disk failed.
BROKEN = {
    "internal-error": "QEMU stopped the machine: KVM could not execute the guest",
    "io-error": "QEMU stopped the machine: a disk image can't be read or written",
}


NOT_STARTED = "did not start a machine:"


def not_started(evidence: Evidence) -> bool:
    """The emulator refused its command line, or is none."""
    emulators = tuple(f"{name} {NOT_STARTED}" for name in ("QEMU", "Bochs"))
    return any(message.startswith(emulators) for message in evidence.messages[:1])


@dataclass
class End:
    """`readable`: QEMU is alive and paused, and can be asked."""

    ending: Ending
    exit_code: Optional[int] = None
    messages: tuple[str, ...] = ()
    readable: bool = True


def shut_down(data: Mapping[str, Any], panicked: bool) -> End:
    """The event SHUTDOWN.  RESET: what is about to reset is not known yet."""
    reason = str(data.get("reason", ""))
    if not data.get("guest"):
        return End(Ending.STOPPED, messages=(f"QEMU was told to end: {reason}",))
    if reason == "guest-reset":
        return End(Ending.RESET)
    if reason == "guest-panic" or panicked:
        return End(Ending.EXITED, messages=("the guest told QEMU that it panicked",))
    return End(Ending.EXITED, messages=(f"the guest ended the machine: {reason}",))


UNANSWERED = (
    "QEMU runs and does not answer its monitor: most often a guest keeps its main loop busy that sets"
    " a timer (PIT, HPET, local APIC) to a period of microseconds"
)


def unanswered(what: str, started: bool) -> End:
    """Its monitor said nothing in time: `what` is missing.  `started`: it showed a machine before."""
    if started:
        return End(Ending.STOPPED, messages=(UNANSWERED, what), readable=False)
    messages = (f"QEMU {NOT_STARTED} it runs and does not greet as QEMU does", what)
    return End(Ending.EMULATOR_DIED, messages=messages, readable=False)


def gone(
    code: Optional[int], started: bool, said: Sequence[str], argv: Sequence[str], asked: bool
) -> End:
    """The monitor's connection is closed.  `code`: of the process, None while it runs; `started`:
    its monitor showed a machine before; `said`: its lines on standard error; `asked`: we ended it.
    """
    died = Ending.EMULATOR_DIED
    said = [line for line in said if "warning:" not in line]
    if code is None:
        return End(died, messages=("QEMU closed its monitor",), readable=False)
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return End(died, messages=(f"QEMU was ended by {name}",), readable=False)
    if not started:
        message = f"QEMU {NOT_STARTED} it ended with code {code}"
        hint = () if said else ("it gave no error, and did not greet as QEMU does",)
        return End(died, code, (message, *hint), readable=False)
    if code == 0:
        ended = asked or any("terminating on signal" in line for line in said)
        return End(Ending.STOPPED if ended else Ending.EXITED, 0, readable=False)
    device = any(word.startswith("isa-debug-exit") for word in argv)
    if device and code & 1 and not (code == 1 and any("qemu" in line for line in said)):
        return End(Ending.EXITED, code, readable=False)
    return End(died, code, (f"QEMU ended with code {code}",), readable=False)
