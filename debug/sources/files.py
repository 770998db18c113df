# SPDX-License-Identifier: BSD-2-Clause
"""Files as witnesses: opens one, tells what it is by its content, and reads it into evidence.

The only module of the file sources that touches the file system.  A file of any length is read
once, from its beginning to its end, in bounded memory: of a long one its head, its tail and what
surrounds the lines that matter are kept (debug.sources.excerpt).  FileError, with a sentence, for what can't be read at all.
"""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import ExitStack
from typing import BinaryIO, Callable, Iterable, Iterator, Optional

from debug.evidence import StageEvent
from debug.sources import bochs_files, kinds, qemu_core, qemu_files, uefi_files
from debug.sources.excerpt import Piece
from debug.sources.kinds import Kind
from debug.sources.pasted import clean
from debug.sources.qemu_log import excerpt as qemu_excerpt
from debug.sources.standard_input import standard_input
from debug.sources.witness import Ceiling, Witness

CHUNK = 1 << 20
HEAD, TAIL = 256 << 10, 1 << 20  # bytes of a log that are kept, beside what surrounds its markers
DEATH = b"Triple fault"

_EXPECTED = (
    "expected a QEMU log (-d int,cpu_reset), the text of info registers (QEMU's or GDB's), a QEMU core"
    " (dump-guest-memory), a Bochs log, UEFI's dump of an exception or a stage trace"
)


StageDecoder = Callable[[Iterable[bytes]], tuple[tuple[StageEvent, ...], str]]
"""The stages in a stream, and its console text: debug/stages knows the frames, not this layer."""


class FileError(Exception):
    """A file that is no evidence; the message names it and says what was expected."""


class FileReader:
    """Reads files into witnesses; a context manager, since a core stays open for its memory."""

    def __init__(self, decode_stages: StageDecoder) -> None:
        self._open = ExitStack()
        self._decode_stages = decode_stages

    def __enter__(self) -> "FileReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, path: str) -> Witness:
        """The witness in the file at `path`, `-` for standard input.  Raises FileError."""
        name = "standard input" if path == "-" else path
        try:
            stream = self._stream(path)
            head = _fill(stream, CHUNK)
            if len(head) == CHUNK and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                raise FileError(f"{name}: a device that does not end; {_EXPECTED}")
            if (packing := kinds.packed(head)) is not None:
                what, command = packing
                file = "FILE" if path == "-" else shlex.quote(path)
                raise FileError(
                    f"{name}: compressed ({what}): {command} {file} | lamppost explain -"
                )
            kind = kinds.kind_of(head)
            if kind in (Kind.QEMU_CORE, Kind.ELF) or qemu_core.refused(head):
                return self._core(name, stream, head, kind)
            return _read_text(name, _chunks(stream, head), kind, self._decode_stages)
        except OSError as error:
            raise FileError(f"{name}: {error.strerror or error}; {_EXPECTED}") from error

    def _stream(self, path: str) -> BinaryIO:
        if path == "-":
            return standard_input()
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        stream = self._open.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise FileError(f"{path}: a directory; {_EXPECTED}")
        if not stat.S_ISREG(mode):
            os.set_blocking(descriptor, True)
        return stream

    def _core(self, name: str, stream: BinaryIO, head: bytes, kind: Kind) -> Witness:
        if what := qemu_core.refused(head):
            raise FileError(
                f"{name}: {what}; expected an ELF core, as QEMU's dump-guest-memory writes it"
                " without -z, -l, -s and -w"
            )
        if kind is Kind.ELF:
            raise FileError(
                f"{name}: an ELF program, and no evidence of a run; give it with --elf, beside a"
                " log or a core"
            )
        try:
            descriptor = stream.fileno()
            size = os.fstat(descriptor).st_size
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileError(f"{name}: a core is read out of order: it must be a file")
            core = qemu_core.read_core(_reader(descriptor), size)
        except qemu_core.CoreError as error:
            raise FileError(f"{name}: {error}") from error
        return Witness(Kind.QEMU_CORE, qemu_core.core_evidence(core), name, Ceiling.CERTAIN)


def _reader(descriptor: int) -> qemu_core.ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        try:
            return os.pread(descriptor, length, offset)
        except (OSError, OverflowError, ValueError):
            return b""

    return read_at


def _fill(stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes; fewer only at the end of the stream."""
    data = bytearray()
    while len(data) < size and (chunk := stream.read(size - len(data))):
        data += chunk
    return bytes(data)


def _chunks(stream: BinaryIO, head: bytes) -> Iterator[bytes]:
    """What was read already, and the rest of the stream."""
    while head:
        yield head
        head = stream.read(CHUNK)


def _read_text(
    name: str, chunks: Iterator[bytes], kind: Kind, decode_stages: StageDecoder
) -> Witness:
    if kind is Kind.BOCHS_LOG:
        return _bochs(name, chunks)
    if kind is Kind.STAGES:
        return _stages(name, chunks, decode_stages)
    excerpt = qemu_excerpt(HEAD, TAIL)
    for chunk in chunks:
        excerpt.feed(chunk)
    deaths, kept = excerpt.counts[DEATH], excerpt.pieces()
    if not kept:
        raise FileError(f"{name}: it is empty; {_EXPECTED}")
    pieces = [Piece(piece.start, clean(piece.data)) for piece in kept]
    text = b"\n".join(piece.data for piece in pieces)
    kind = kinds.kind_of(text[: kinds.SAMPLE], text[-kinds.SAMPLE :])
    found: Optional[Witness] = None
    if kind is Kind.QEMU_LOG:
        unread = excerpt.length - sum(len(piece.data) for piece in kept)
        found = qemu_files.log_witness(name, pieces, unread, deaths)
        found = uefi_files.with_console(found, text.decode("utf-8", "replace"))
        if not unread and found.evidence.stages == ():
            stages, console = decode_stages([piece.data for piece in kept])
            found = found.with_stages(stages, console) if stages else found
    elif kind is Kind.QEMU_REGISTERS:
        found = qemu_files.registers_witness(name, text.decode("utf-8", "replace"))
    elif kind in (Kind.BOCHS_LOG, Kind.BOCHS_DEBUGGER):
        found = bochs_files.text_witness(name, kind, text.decode("utf-8", "replace"))
    elif kind is Kind.UEFI_DUMP:
        found = uefi_files.witness_of(name, text.decode("utf-8", "replace"))
        stages, _ = decode_stages([piece.data for piece in kept])
        found = found.with_stages(stages, found.evidence.console) if found and stages else found
    elif kind is Kind.STAGES:
        return _stages(name, iter([text]), decode_stages)
    if found is None:
        raise FileError(f"{name}: nothing in its {excerpt.length} bytes is known here; {_EXPECTED}")
    return found


def _bochs(name: str, chunks: Iterator[bytes]) -> Witness:
    reader = bochs_files.TextReader()
    for chunk in chunks:
        reader.feed(chunk)
    found = reader.witness(name)
    if found is None:
        raise FileError(f"{name}: no line of it is a Bochs log's; {_EXPECTED}")
    return found


def _stages(name: str, chunks: Iterator[bytes], decode_stages: StageDecoder) -> Witness:
    stages, console = decode_stages(chunks)
    if not stages:
        raise FileError(f"{name}: no stage frame in it is whole; {_EXPECTED}")
    return Witness.of_stages(name, stages, console)
