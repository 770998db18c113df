# SPDX-License-Identifier: BSD-2-Clause
"""Completion scripts for bash, zsh and fish.

zsh reads bash's script through its own bashcompinit, so that one script serves both.
"""

from __future__ import annotations

import shlex
from typing import Iterable, Sequence

from debug.cli.described.model import COMMANDS, DIRECTORIES, FILES, NOTHING, Option, Subcommand

SHELLS = ("bash", "zsh", "fish")
NAME = "lamppost"

_BASH = """\
# {shell} completion for lamppost, printed by `lamppost completion {shell}`.
{first}_lamppost() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before= command= i
    (( COMP_CWORD > 0 )) && before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    for (( i = 1; i < COMP_CWORD; i++ )); do
        case ${{COMP_WORDS[i]}} in
        --) _lamppost_offer "$(( COMP_CWORD - i ))"; return ;;
        -*) ;;
        *) [ -n "$command" ] || command=${{COMP_WORDS[i]}} ;;
        esac
    done
    case "$command $before" in
{values}
    esac
    case "$word" in
    -*)
        case "$command" in
{flags}
        esac ;;
    *)
        case "$command" in
{words}
        esac ;;
    esac
}}
# After -- stands another program's command line: its name, then its files.
_lamppost_offer() {{
    if [ "$1" = 1 ]; then
        COMPREPLY=( $(compgen -c -- "$word") )
    else
        COMPREPLY=( $(compgen -f -- "$word") )
    fi
}}
complete -o filenames -F _lamppost lamppost
"""
_ZSH_FIRST = """\
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""


def script(shell: str, commands: Sequence[Subcommand]) -> str:
    """The script for one of SHELLS."""
    return _fish(commands) if shell == "fish" else _bash(shell, commands)


def _bash(shell: str, commands: Sequence[Subcommand]) -> str:
    values, flags, words = [], [], []
    for command in commands:
        for option in command.options:
            if option.metavar:
                pattern = "|".join(f'"{command.name} {flag}"' for flag in option.flags)
                values.append(f"    {pattern}) {_reply(option)}; return ;;")
        named = " ".join(flag for option in command.options for flag in option.flags)
        flags.append(f"        {command.name}) {_offer(named.split())} ;;")
        for option in command.positionals:
            words.append(f"        {command.name}) {_reply(option)} ;;")
    names = [command.name for command in commands]
    flags.append(f"        '') {_offer(['--help'])} ;;")
    words.append(f"        '') {_offer(names)} ;;")
    return _BASH.format(
        shell=shell,
        first=_ZSH_FIRST if shell == "zsh" else "",
        values="\n".join(values),
        flags="\n".join(flags),
        words="\n".join(words),
    )


def _reply(option: Option) -> str:
    if option.values:
        return _offer(option.values)
    action = {FILES: "-f", DIRECTORIES: "-d", COMMANDS: "-c"}.get(option.completes)
    return f'COMPREPLY=( $(compgen {action} -- "$word") )' if action else ":"


def _offer(words: Iterable[str]) -> str:
    return f'COMPREPLY=( $(compgen -W {shlex.quote(" ".join(words))} -- "$word") )'


def _fish(commands: Sequence[Subcommand]) -> str:
    lines = [
        "# fish completion for lamppost, printed by `lamppost completion fish`.",
        f"complete -c {NAME} -f",
    ]
    for command in commands:
        alone = "-n __fish_use_subcommand"
        lines.append(f"complete -c {NAME} {alone} -a {command.name} -d {_quoted(command.summary)}")
        here = f"-n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            lines.append(f"complete -c {NAME} {here} {_fish_option(option)}")
        for option in command.positionals:
            if option.completes != NOTHING:
                lines.append(f"complete -c {NAME} {here} -F")
            elif option.values:
                lines.append(f"complete -c {NAME} {here} -a {_quoted(' '.join(option.values))}")
        if command.runs_command:
            behind = f"-n '__fish_seen_subcommand_from {command.name}; and contains -- -- (commandline -opc)'"
            lines.append(f"complete -c {NAME} {behind} -a '(__fish_complete_command)' -F")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    names = [
        f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
    ]
    words = [*names, "-d", _quoted(option.help)]
    if option.metavar:
        words.append("-x" if option.completes == NOTHING else "-rF")
    if option.values:
        words += ["-a", _quoted(" ".join(option.values))]
    return " ".join(words)


def _quoted(text: str) -> str:
    """A word in single quotes, as fish reads them."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
