# SPDX-License-Identifier: BSD-2-Clause
"""How every command ends: errors become one message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Callable, Optional

from debug.cli.errors import CommandError
from debug.cli.exit_codes import ExitCode

# Python packages that are not in the standard library, and the Debian packages that hold them.
PACKAGES = {
    "rich": "python3-rich",
    "elftools": "python3-pyelftools",
    "capstone": "python3-capstone",
    "pexpect": "python3-pexpect",
    "jsonschema": "python3-jsonschema",
}


_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_streams() -> None:
    """Give a program that was started with closed streams some that lead nowhere.

    Else what is opened first becomes its standard output.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            if nowhere != descriptor:
                os.close(nowhere)
            setattr(sys, name, os.fdopen(descriptor, mode))


def guarded(action: Callable[[], int], tell: Optional[Callable[[str], None]] = None) -> int:
    """Run a command; its exit code, or that of the error that ended it.

    tell: is given the message of that error, which goes to standard error in any case.
    """
    try:
        code = action()
        sys.stdout.flush()
        return int(code)
    except CommandError as error:
        _complain(str(error), tell)
        return error.code
    except ModuleNotFoundError as error:
        _complain(_missing(error), tell)
        return ExitCode.MISSING_TOOL
    except BrokenPipeError:
        _drop_output()
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        _drop_output()
        _complain(f"the output can't be written: {error.strerror}", None)
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _drop_output() -> None:
    """Whatever is still buffered has no reader: let the flush at exit go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, tell: Optional[Callable[[str], None]]) -> None:
    try:
        print(f"lamppost: {message}", file=sys.stderr)
    except OSError:
        pass  # nobody can be told
    if tell is not None:
        tell(message)


def _missing(error: ModuleNotFoundError) -> str:
    name = (error.name or "").split(".")[0]
    package = PACKAGES.get(name)
    if package is None:
        return f"the Python module {error.name} is missing"
    return f"the Python package {name} is missing: apt-get install {package}"
