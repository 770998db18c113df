# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of our own kernel, healthy or broken by a lab; a file's name says what it shows.

    KIND.MACHINE[.WORD...].svg      stages.healthy.cpus=2.smp=serial.svg
                                    chain.ap-cr3-zero.svg
                                    walk.healthy.ap_entry.svg

MACHINE is `healthy` or a lab; a WORD with `=` is the number of CPUs or a boot option, another one
is the address or symbol of a walk.  The boots are repeatable to the last TSC value, so the same
kernel gives the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Callable, Optional

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode
from debug.cli.observe import Wishes, observe
from debug.kernel.arrival import Arrival, all_arrived
from debug.kernel.demo import watch
from debug.kernel.machine import REPEATABLE, ROOT, Kernel
from debug.labs.diagnose import settled
from debug.labs.lab import load
from debug.labs.workshop import build
from debug.pictures.drawing import NoPicture
from debug.pictures.gallery import draw
from debug.pictures.wanted import KINDS
from debug.report.diagnosis import Diagnosis

HEALTHY = "healthy"
PICTURES = ROOT / "build" / "pictures"
CPUS = 4
_WORD = re.compile(r"[A-Za-z0-9_=,-]+")


class PictureError(CommandError):
    """A picture that can't be drawn; the message says why."""


@dataclass(frozen=True)
class Picture:
    """What a picture shows; `options` are the kernel's command line, of a healthy one only."""

    kind: str
    machine: str = HEALTHY
    subject: Optional[str] = None
    cpus: int = CPUS
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its file's name."""
        words = [self.kind, self.machine, *([self.subject] if self.subject else [])]
        words += [f"cpus={self.cpus}"] if self.cpus != CPUS else []
        return ".".join([*words, *self.options]) + ".svg"


def checked(picture: Picture) -> Picture:
    """The picture, if there can be such a one.  Raises PictureError."""
    if picture.kind not in KINDS:
        raise PictureError(f"no picture {picture.kind!r}: expected one of {', '.join(KINDS)}")
    if picture.subject and picture.kind != "walk":
        raise PictureError(f"AT={picture.subject}: only a walk has an address")
    if picture.machine != HEALTHY:
        load(picture.machine)
        if picture.cpus != CPUS or picture.options:
            raise PictureError("a lab has its own CPUS and OPTIONS: leave them out")
    for word in (picture.subject or "", *picture.options):
        if word and not _WORD.fullmatch(word):
            raise PictureError(f"{word!r} can't be part of a file's name")
    return picture


def named(name: str) -> Picture:
    """What a file of this name shows.  Raises PictureError."""
    words = name.removesuffix(".svg").split(".")
    if len(words) < 2:
        raise PictureError(f"{name}: expected KIND.MACHINE[.WORD...].svg")
    subject, cpus, options = None, CPUS, []
    for word in words[2:]:
        if word.startswith("cpus=") and word[5:].isdigit():
            cpus = int(word[5:])
        elif "=" in word:
            options.append(word)
        else:
            subject = word
    picture = checked(Picture(words[0], words[1], subject, cpus, tuple(options)))
    if picture.name != name:
        raise PictureError(f"{name}: its name would be {picture.name}")
    return picture


def render(picture: Picture, healthy: Path = ROOT / "build") -> str:
    """Boot its machine and draw it.  Raises CommandError."""
    return _draw(picture, _kernel(picture, healthy))


@lru_cache(maxsize=8)
def _kernel(picture: Picture, healthy: Path) -> Kernel:
    if picture.machine == HEALTHY:
        return Kernel(healthy, picture.cpus, " ".join(picture.options), REPEATABLE)
    lab = load(picture.machine)
    return replace(build(lab), extra=(*lab.qemu, *REPEATABLE))


def _draw(picture: Picture, kernel: Kernel) -> str:
    found: list[str] = []

    def look(diagnosis: Diagnosis) -> None:
        try:
            found.append(draw(diagnosis, picture.kind, picture.subject))
        except NoPicture as error:
            raise PictureError(f"{picture.name}: {error}", ExitCode.USAGE) from error

    observe(kernel.qemu(), replace(_until_over(picture, kernel), look=look))
    return found[0]


def _until_over(picture: Picture, kernel: Kernel) -> Wishes:
    """Watched as long as something new may come."""
    if picture.machine == HEALTHY:
        arrival = Arrival(all_arrived(kernel.cpus))
        return replace(watch(kernel), on_output=arrival.take, stop_when=arrival.is_over)
    over = settled(load(picture.machine))
    return replace(watch(kernel), on_output=over.take, stop_when=over.is_over)


def committed() -> list[Path]:
    """The pictures that stand beside the chapters that show them."""
    return sorted((ROOT / "docs" / "tutorial").glob("*/*.svg"))


_MOVES = (  # what an edit elsewhere moves: no difference to a reader
    (re.compile(r"0x[0-9a-f]{6,}"), "0x…"),  # addresses of the kernel and its tables
    (re.compile(r"\b(PML4|PDPT|PD|PT)(\[| index )\d+"), r"\1\2…"),
    (re.compile(r"(offset |\+)0x[0-9a-f]+"), r"\1…"),
    (re.compile(r"0x8[0-9a-f]{3}\b(?<!0x8000)"), "0x8…"),  # inside the trampoline
    (re.compile(r"\b[0-9.]+ (ms|µs|cycles|[KM]iB)"), r"… \1"),
    (re.compile(r"(\.(?:asm|c|h)):\d+"), r"\1:…"),
    (re.compile(r"\b\d+ (of \d+ slots)"), r"… \1"),  # APs beside the one that died
)


def content(svg: str) -> list[str]:
    """What the picture says, in order, without what moves with every build."""
    said = []
    for text in re.findall(r"<(?:title|desc|text)[^>]*>([^<]*)<", svg):
        for pattern, shown in _MOVES:
            text = pattern.sub(shown, text)
        said.append(text)
    return said


def write(pictures: list[tuple[Picture, Path]], tell: Callable[[str], None]) -> None:
    """Draw each and write it to its file, telling the name of each."""
    for picture, path in pictures:
        text = render(picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        tell(str(path.relative_to(ROOT)))
