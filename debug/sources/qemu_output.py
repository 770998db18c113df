# SPDX-License-Identifier: BSD-2-Clause
"""What a running QEMU writes: consoles, standard output, and its log, read as they grow."""

from __future__ import annotations

import os
import re
from typing import Callable, Optional

from debug.sources.chorus import Chorus
from debug.sources.command_line import Launch
from debug.sources.console import Printed, plain
from debug.sources.excerpt import Excerpt
from debug.sources.follow import FollowedFile
from debug.sources.qemu_log import LogReader, QemuLog
from debug.sources.qemu_process import Process

STREAM_HEAD, STREAM_TAIL = 8 << 20, 4 << 20  # bytes kept of each console
UNTIL_WINDOW = 64 << 10  # bytes in which the awaited text must fit
MAX_LOGS = 1024  # files, one per thread


class Output:
    """All that QEMU writes.  `pump()` must be called often; it never blocks."""

    def __init__(
        self,
        launch: Launch,
        private: bool,
        on_output: Optional[Callable[[bytes], None]] = None,
        until: Optional[str] = None,
    ) -> None:
        self._launch = launch
        self._private = private
        self._on_output = on_output
        self._chorus = Chorus()
        self._until = re.compile(until.encode()) if until else None
        self._streams: dict[str, Excerpt] = {}
        self._windows: dict[str, bytes] = {}
        self._files: dict[str, FollowedFile] = {}
        if launch.e9_file:
            mine = private and not launch.e9_is_users
            self._files["e9"] = FollowedFile(launch.e9_file, mine)
        if launch.com1_file:
            mine = private and not launch.com1_is_users
            self._files["com1"] = FollowedFile(launch.com1_file, mine)
        self._logs: dict[int, tuple[FollowedFile, LogReader]] = {}
        if launch.log_file:
            follow = FollowedFile(launch.log_file, private and not launch.log_is_users)
            self._logs[0] = (follow, LogReader())
        self._stderr = bytearray()
        self.process: Optional[Process] = None
        self.until_seen = False
        self.printed = Printed()
        self.activity = 0  # bytes of console and log that have come

    def pump(self) -> None:
        """Take what there is from everywhere."""
        for name, file in self._files.items():
            self._take(name, file.read())
        if self.process is not None:
            self._take("stdout", self.process.read_stdout())
            self._stderr += self.process.read_stderr()
            del self._stderr[: -(64 << 10)]
        self._pump_logs()

    def _take(self, name: str, data: bytes) -> None:
        if not data:
            return
        self.activity += len(data)
        self.printed.add(data)
        if name not in self._streams:
            self._streams[name] = Excerpt(STREAM_HEAD, STREAM_TAIL)
        self._streams[name].feed(data)
        if self._until is not None and not self.until_seen:
            window = self._windows.get(name, b"") + data
            self.until_seen = self._until.search(window) is not None
            self._windows[name] = window[-UNTIL_WINDOW:]
        if self._on_output is None:
            return
        if self._launch.stdio and name == "stdout":
            self._on_output(data)  # the user's own console, key by key
        elif not (self._launch.stdio and self._launch.com1_is_users):
            shown = self._chorus.feed(name, data)
            if shown:
                self._on_output(shown)

    def _pump_logs(self) -> None:
        prefix = self._launch.log_prefix
        if prefix is not None:
            directory, start = os.path.split(prefix)
            try:
                names = os.listdir(directory)
            except OSError:
                names = []
            for name in names:
                number = name[len(start) :]
                if not name.startswith(start) or not number.isdecimal():
                    continue
                if int(number) not in self._logs and len(self._logs) < MAX_LOGS:
                    path = os.path.join(directory, name)
                    follow = FollowedFile(path, self._private)
                    self._logs[int(number)] = (follow, LogReader())
        for follow, reader in self._logs.values():
            data = follow.read()
            if data:
                self.activity += len(data)
                reader.feed(data)

    def follow(self, thread: int, path: str) -> None:
        """Read one more log, of what this thread does."""
        self._logs.setdefault(thread, (FollowedFile(path, self._private), LogReader()))

    def logs(self) -> dict[int, QemuLog]:
        """The parsed log of each host thread; a log that is no thread's has the key 0."""
        return {number: reader.result() for number, (_, reader) in self._logs.items()}

    def streams(self) -> dict[str, bytes]:
        """What each of e9, com1 and stdout carried, raw; of a flood the head and the tail."""
        return {
            name: b"".join(piece.data for piece in excerpt.pieces())
            for name, excerpt in self._streams.items()
        }

    def console(self) -> str:
        """The tail of what the guest printed, safe to print."""
        texts = dict.fromkeys(plain(data) for data in self.streams().values())
        return "\n".join(text for text in texts if text)

    def messages(self) -> tuple[str, ...]:
        """QEMU's own lines on standard error."""
        lines = plain(bytes(self._stderr)).splitlines()
        return tuple(line[:400] for line in lines if line.strip())[-50:]

    def close(self) -> None:
        """Show what is left to show, and let go of the files."""
        rest = self._chorus.end()
        if rest and self._on_output is not None:
            self._on_output(rest)
        for file in self._files.values():
            file.close()
        for follow, _ in self._logs.values():
            follow.close()
