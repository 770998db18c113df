# SPDX-License-Identifier: BSD-2-Clause
"""What a guest prints under Bochs: port 0xE9 on stdout, COM1 in a file."""

from __future__ import annotations

import re
from typing import Callable, Mapping, Optional

from debug.sources.chorus import Chorus
from debug.sources.console import Printed, plain
from debug.sources.follow import FollowedFile

MAX_STREAM = 32 << 20  # bytes kept of each
CONSOLE = 64 << 10
_OVERLAP = 4096  # bytes searched again, for a match that spans two reads


class Output:
    """Collects both consoles, hands them on as they come and looks for `until`.

    Raises re.error for an `until` that is no regular expression.
    """

    def __init__(
        self,
        com1_file: Optional[str],
        private: bool,
        on_output: Optional[Callable[[bytes], None]],
        until: Optional[str],
    ) -> None:
        self._com1 = FollowedFile(com1_file, private) if com1_file is not None else None
        self._on_output = on_output
        self._chorus = Chorus()
        self._until = re.compile(until.encode()) if until is not None else None
        self._streams = {"e9": bytearray(), "com1": bytearray()}
        self._last = bytearray()
        self.until_seen = False
        self.printed = Printed()
        self.activity = 0  # grows with each byte

    def e9(self, data: bytes) -> None:
        """Bytes that the guest wrote to port 0xE9."""
        self._take("e9", data)

    def pump(self) -> None:
        """Read what COM1 got."""
        if self._com1 is not None:
            data = self._com1.read()
            if data:
                self._take("com1", data)

    def _take(self, name: str, data: bytes) -> None:
        stream = self._streams[name]
        stream += data
        if self._until is not None and not self.until_seen:
            start = max(0, len(stream) - len(data) - _OVERLAP)
            self.until_seen = self._until.search(stream, start) is not None
        if len(stream) > 2 * MAX_STREAM:
            del stream[:-MAX_STREAM]
        self._last += data
        if len(self._last) > 2 * CONSOLE:
            del self._last[:-CONSOLE]
        self.activity += len(data)
        self.printed.add(data)
        if self._on_output is not None:
            shown = self._chorus.feed(name, data)
            if shown:
                self._on_output(shown)

    def streams(self) -> Mapping[str, bytes]:
        return {name: bytes(stream) for name, stream in self._streams.items()}

    def console(self) -> str:
        """The tail of both, as they came, safe to print."""
        return plain(bytes(self._last), CONSOLE)

    def close(self) -> None:
        if self._com1 is not None:
            self._com1.close()
