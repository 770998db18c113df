# SPDX-License-Identifier: BSD-2-Clause
"""An error that ends a command with one message."""

from __future__ import annotations

from debug.cli.exit_codes import ExitCode


class CommandError(Exception):
    """What was wrong, what was expected and what to do; `lamppost` prints it and exits."""

    def __init__(self, message: str, code: ExitCode = ExitCode.BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code
