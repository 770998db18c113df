# SPDX-License-Identifier: BSD-2-Clause
"""`lamppost completion SHELL`: the script that makes a shell complete the command line."""

from __future__ import annotations

import argparse
import sys

from debug.cli.described.completion import SHELLS, script
from debug.cli.exit_codes import ExitCode

_EPILOG = """\
bash: source <(lamppost completion bash)       in ~/.bashrc
zsh:  source <(lamppost completion zsh)        in ~/.zshrc
fish: lamppost completion fish > ~/.config/fish/completions/lamppost.fish"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    from debug.cli.main import described

    sys.stdout.write(script(options.shell, described()))
    return ExitCode.HEALTHY
