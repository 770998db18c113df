# SPDX-License-Identifier: BSD-2-Clause
"""Why a live machine can't be observed; both say what was wrong and what to do."""

from __future__ import annotations


class CommandLineError(Exception):
    """The command line can't be observed; the message says what to change."""


class StartError(Exception):
    """The emulator can't be run."""


class MissingProgram(StartError):
    """It is not installed, or not where the command line says."""
