# SPDX-License-Identifier: BSD-2-Clause
"""What is added to the user's command line, and what is left alone."""

from __future__ import annotations

import pytest

from debug.sources.command_line import Additions, Launch, plan
from debug.sources.errors import CommandLineError

ADD = Additions(qmp_fd=7, directory="/private")


def launch(*words: str, add: Additions = ADD) -> Launch:
    return plan(["qemu-system-x86_64", *words], add)


def after(launched: Launch, option: str) -> list[str]:
    """The values of an option, in order."""
    argv = launched.argv
    return [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == option]


def test_the_users_words_come_first_and_unchanged() -> None:
    words = ("-kernel", "k.elf", "-append", "-display is not an option", "-smp", "4")
    launched = launch(*words)
    assert launched.argv[1 : 1 + len(words)] == words
    assert after(launched, "-display")[-1] == "none"


@pytest.mark.parametrize(
    "words, option",
    [
        (["-display", "gtk"], "-display"),
        (["-nographic"], "-display"),
        (["-vnc", ":1"], "-display"),
        (["-nic", "user"], "-nic"),
        (["-netdev", "user,id=n"], "-nic"),
        (["--serial", "stdio"], "-serial"),
        (["-device", "isa-serial,chardev=c"], "-serial"),
        (["-nographic", "-nodefaults"], "-serial"),
        (["-nographic", "-nodefaults"], "-monitor"),
        (["-nographic", "-serial", "null", "-qmp", "stdio"], "-monitor"),
        (["-nodefaults"], "-serial"),
    ],
)
def test_what_the_user_chose_is_not_chosen_again(words: list[str], option: str) -> None:
    launched = launch(*words)
    assert option not in launched.argv[1 + len(words) :]


@pytest.mark.parametrize(
    "words, option, chosen, signals",
    [
        ([], "-serial", "mon:stdio", False),
        (["-qmp", "unix:q,server=on,wait=off"], "-serial", "stdio", True),
        (["-serial", "file:x"], "-monitor", "stdio", True),
    ],
)
def test_nographic_has_on_the_terminal_what_qemu_puts_there(
    words: list[str], option: str, chosen: str, signals: bool
) -> None:
    """QEMU does not by itself: it is given a monitor, ours."""
    launched = launch("-nographic", *words)
    assert after(launched, option)[-1] == chosen
    assert launched.stdio and launched.signals is signals


def test_consoles_go_to_private_files_unless_the_user_has_them() -> None:
    launched = launch()
    assert (launched.e9_file, launched.com1_file) == ("/private/e9", "/private/com1")
    theirs = launch("-debugcon", "file:a.txt", "-serial", "stdio")
    assert (theirs.e9_file, theirs.com1_file) == ("a.txt", None)
    assert not any("isa-debugcon" in word for word in theirs.argv)
    assert launch("-device", "isa-debugcon,iobase=0x402,chardev=c").e9_file == "/private/e9"
    assert launch("-device", "isa-debugcon,chardev=c").e9_file is None


def test_log_items_are_merged_because_the_last_wins() -> None:
    launched = launch("-d", "guest_errors,int")
    assert after(launched, "-d")[-1] == "guest_errors,int,cpu_reset,tid"
    assert after(launched, "-D") == ["/private/log.%d"]


def test_the_users_log_file_stays_his() -> None:
    launched = launch("-D", "mine.log", "-d", "int")
    assert launched.log_file == "mine.log" and launched.log_is_users
    assert after(launched, "-D") == ["mine.log"] and "tid" not in after(launched, "-d")[-1]


def test_what_is_overruled_is_said_with_the_way_to_have_it() -> None:
    assert launch("-d", "int").notes == ("-d int: the log is read here; -D FILE keeps it",)
    assert launch("-d", "int", "-D", "mine.log").notes == launch("-d", "guest_errors").notes == ()
    assert "-action reboot=reset" in launch("-action", "reboot=reset").notes[0]


def test_a_qemu_without_tid_gets_one_file() -> None:
    launched = launch(add=Additions(7, "/private", log_per_thread=False))
    assert launched.log_file == "/private/log" and launched.log_prefix is None
    assert "tid" not in after(launched, "-d")[-1]


def test_the_machine_waits_for_us_but_not_when_the_user_stopped_it() -> None:
    assert launch().argv.count("-S") == 1 and launch().starts_itself
    assert launch("-S").argv.count("-S") == 1 and not launch("-S").starts_itself


def test_what_cant_be_observed_is_refused() -> None:
    with pytest.raises(CommandLineError, match="daemonize"):
        launch("-daemonize")
    with pytest.raises(CommandLineError):
        plan([], ADD)


@pytest.mark.parametrize(
    "words",
    [
        ("-qmp", "unix:/private/q,server=on"),
        ("-serial", "tcp::4444,server"),
        ("-monitor", "telnet::4445,server,nodelay"),
        ("-chardev", "socket,id=c,path=/private/c,server=on"),
        ("-incoming", "defer"),
    ],
)
def test_what_holds_the_machine_back_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(CommandLineError, match="holds the machine back"):
        launch(*words)
    if words[0] != "-incoming":
        for off in ("wait=off", "nowait"):
            assert launch(words[0], f"{words[1]},{off}").starts_itself
    launch("-gdb", "unix:/private/g,server=on")


def test_a_directory_that_qemu_can_not_name_is_refused_with_the_way_out() -> None:
    with pytest.raises(CommandLineError, match="a comma in a file name: /a,b; set TMPDIR"):
        launch(add=Additions(7, "/a,b"))


def test_a_display_on_the_terminal_is_refused() -> None:
    for words in (("-curses",), ("-display", "curses"), ("-display", "curses,charset=CP437")):
        with pytest.raises(CommandLineError, match="draws on the terminal"):
            launch(*words)


def test_no_network_port_is_opened() -> None:
    assert not any("tcp" in word or "unix" in word for word in launch().argv)


def test_a_folder_as_a_disk_is_read_only_where_the_guests_writes_are_forgotten() -> None:
    """QEMU refuses fat:rw: together with -snapshot."""
    words = ["-drive", "format=raw,file=fat:32:rw:esp", "-hdb", "fat:rw:other"]
    again = launch(*words, add=Additions(7, "/private", scratch_disks=True)).argv
    assert {"format=raw,file=fat:32:esp", "fat:other", "-snapshot"} <= set(again)
    assert set(words) <= set(launch(*words).argv)
