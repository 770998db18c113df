# SPDX-License-Identifier: BSD-2-Clause
"""A file's kind from its content."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from debug.sources.console import plain
from debug.sources.kinds import Kind, kind_of

RECORDED = Path(__file__).resolve().parents[2] / "recorded" / "qemu"


@pytest.mark.parametrize(
    "head, kind",
    [
        ((RECORDED / "ap-long-mode.log").read_bytes(), Kind.QEMU_LOG),
        ((RECORDED / "real-mode.log").read_bytes(), Kind.QEMU_LOG),
        ((RECORDED / "info-registers.txt").read_bytes(), Kind.QEMU_REGISTERS),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\x00", Kind.QEMU_CORE),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00", Kind.ELF),
        (b"\x7fELF\x01\x02\x01" + bytes(9) + b"\x00\x04", Kind.QEMU_CORE),
        (b"\x7fELF", Kind.UNKNOWN),
        (b"00197099808i[APIC1 ] Deliver Start Up IPI\n", Kind.BOCHS_LOG),
        (b"<bochs:3> page 0x8000\nlinear page\n", Kind.BOCHS_DEBUGGER),
        (b"hello\r\n@00:10.0*1f\n", Kind.STAGES),
        (b"", Kind.EMPTY),
        (b"Dear diary, today my kernel rebooted.\n", Kind.UNKNOWN),
    ],
)
def test_kinds(head: bytes, kind: Kind) -> None:
    assert kind_of(head) is kind


def test_the_tail_counts_too() -> None:
    assert kind_of(b"boot noise\n" * 9000, b"Servicing hardware INT=0x08\n") is Kind.QEMU_LOG


@given(st.binary(max_size=300))
def test_any_bytes_have_a_kind(data: bytes) -> None:
    assert isinstance(kind_of(data, data), Kind)


@given(st.binary(max_size=300))
def test_console_text_is_safe_to_print(data: bytes) -> None:
    assert all(c in "\n\t" or c.isprintable() for c in plain(data))


def test_console_text_loses_escapes_not_words() -> None:
    assert plain(b"a\x1b[31mred\x1b[0m\x1b]0;title\x07b\r\n\xe2\x80\xaec") == "aredb\nc"
