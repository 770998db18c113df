# SPDX-License-Identifier: BSD-2-Clause
"""The frame decoder: exact on whole frames, honest about damage, unimpressed by garbage."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from debug.stages.checksum import checksum, encode
from debug.stages.frames import DamageKind, Frame, FrameDecoder, Item, Text
from debug.stages.trace import Trace, decode

APIC_IDS = st.one_of(st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF))
ARGUMENTS = st.one_of(st.none(), st.integers(0, 0xFFFFFFFF))
MESSAGES = st.tuples(APIC_IDS, st.integers(0, 0xFF), ARGUMENTS)
CONSOLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def content(trace: Trace) -> list[tuple[int, int, Optional[int]]]:
    return [(f.apic_id, f.code, f.argument) for f in trace.frames]


def kinds(trace: Trace) -> list[DamageKind]:
    return [damage.kind for damage in trace.damage]


def merged(items: list[Item]) -> list[object]:
    """Items with neighbouring texts joined: how text is cut is not part of the promise."""
    result: list[object] = []
    for is_text, group in groupby(items, lambda item: isinstance(item, Text)):
        if is_text:
            result.append("".join(item.text for item in group if isinstance(item, Text)))
        else:
            result.extend(group)
    return result


def stream(*frames: tuple[int, int, Optional[int]]) -> list[bytes]:
    """Encoded frames with each CPU's right sequence."""
    counts: dict[int, int] = {}
    result = []
    for apic_id, code, argument in frames:
        result.append(encode(apic_id, code, argument, counts.get(apic_id, 0)))
        counts[apic_id] = counts.get(apic_id, 0) + 1
    return result


def uncounted(apic_id: int, code: int, argument: Optional[int] = None) -> bytes:
    """The frame of an emitter that keeps no count: `-` in place of the sequence."""
    body = encode(apic_id, code, argument, 0)[1:].split(b"*")[0][:-1] + b"-"
    return b"@" + body + b"*%02x\n" % checksum(body)


def test_the_sum_is_the_documented_one() -> None:
    total = 0
    for character in b"03:60.c":
        total = (total << 1) & 0xFF | total >> 7
        total ^= character
    assert checksum(b"03:60.c") == total
    assert encode(3, 0x60, None, 12) == b"@03:60.c*%02x\n" % total
    assert encode(0x100, 0xC3, 0xFFFFFFFF, 15).startswith(b"@00000100:c3=ffffffff.f*")


@given(st.lists(st.one_of(MESSAGES, CONSOLE), max_size=60))
def test_frames_between_console_text_decode_exactly(
    parts: list[str | tuple[int, int, Optional[int]]]
) -> None:
    counts: dict[int, int] = {}
    data, expected_text, expected = b"", "", []
    for part in parts:
        if isinstance(part, str):
            line = "." + part + " \n"  # never a bare frame tail
            data += line.replace("@", "@@").encode()
            expected_text += line
        else:
            apic_id, code, argument = part
            data += encode(apic_id, code, argument, counts.get(apic_id, 0))
            counts[apic_id] = counts.get(apic_id, 0) + 1
            expected.append(part)
    trace = decode(data)
    assert content(trace) == expected
    assert trace.console == expected_text
    assert [kind for kind in kinds(trace) if kind is not DamageKind.DOUBTFUL] == []


def test_frames_may_begin_in_mid_line_and_carriage_returns_are_ignored() -> None:
    one, two = stream((0, 0xB8, None), (1, 0x10, None))
    trace = decode(b"booting... " + one.replace(b"\n", b"\r\n") + b"a\r\nb " + two + b"done\r\n")
    assert content(trace) == [(0, 0xB8, None), (1, 0x10, None)]
    assert trace.console == "booting... a\nb done\n"
    assert trace.damage == ()


def test_any_single_wrong_character_is_seen() -> None:
    """Exhaustive: each byte of these frames, replaced by each of the 255 others."""
    samples = [(0x03, 0x60, None), (0xFFFF0003, 0xC3, 0x12345678), (7, 0xC5, 0), (0, 0xE0, 0xE)]
    for apic_id, code, argument in samples:
        whole = encode(apic_id, code, argument, 0)
        right = (apic_id, code, argument)
        for at in range(len(whole)):
            for value in set(range(256)) - {whole[at]}:
                trace = decode(whole[:at] + bytes([value]) + whole[at + 1 :])
                wrong = [frame for frame in content(trace) if frame != right]
                if wrong:  # a second `@` tears the frame in two, and that is reported
                    assert value == ord("@") and kinds(trace)[0] is DamageKind.TORN
                elif trace.frames:  # only what does not touch the content may pass
                    assert at == len(whole) - 1
                    assert kinds(trace)[0] is DamageKind.UNTERMINATED


def test_a_wrong_character_in_a_stream_shows_as_damage() -> None:
    """With frames around it, also what turns a frame into console text is reported."""
    whole = stream(*[(3, code, None) for code in (0x10, 0x11, 0x12)])
    for at in range(len(whole[1]) - 1):
        for value in set(range(256)) - {whole[1][at]}:
            broken = whole[1][:at] + bytes([value]) + whole[1][at + 1 :]
            trace = decode(whole[0] + broken + whole[2])
            assert content(trace) == [(3, 0x10, None), (3, 0x12, None)]
            assert DamageKind.LOST in kinds(trace)


def test_what_the_sum_lets_pass() -> None:
    """Random frames in place of the right one: 1 in 256 has the right sum, no more."""
    chance = random.Random(1)
    passed = 0
    trials = 50_000
    for _ in range(trials):
        digits = bytearray(b"00000003:c3=12345678.4")
        for _ in range(2):
            at = chance.choice([i for i, c in enumerate(digits) if c in b"0123456789abcdef"])
            digits[at] = chance.choice(b"0123456789abcdef")
        if bytes(digits) != b"00000003:c3=12345678.4":
            passed += checksum(digits) == checksum(b"00000003:c3=12345678.4")
    assert passed / trials < 1 / 64  # digits differ in few bits: worse than 1 in 256, by this much


@given(st.binary(max_size=400))
def test_any_bytes_are_accepted_and_nothing_steers_a_terminal(data: bytes) -> None:
    trace = decode(data)
    assert all(c in "\n\t" or c.isprintable() or ord(c) >= 0xA0 for c in trace.console)
    assert all(damage.text.isprintable() for damage in trace.damage)


TRACE_LIKE = st.lists(
    st.one_of(
        st.sampled_from([b"@", b"@@", b"\r", b"\n", b"\0", b"\x1b[31m", b"\x1b]0;x\x07"]),
        st.text("0123456789abcdef:=.*@-", max_size=8).map(str.encode),
        st.tuples(st.integers(0, 2), st.integers(0x10, 0x13)).map(lambda t: uncounted(*t)),
        st.tuples(st.integers(0, 2), st.integers(0x10, 0x13), st.none(), st.integers(0, 15)).map(
            lambda t: encode(*t)
        ),
    ),
    max_size=40,
).map(b"".join)


@given(TRACE_LIKE, st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=400)
def test_how_the_stream_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    def run(pieces: list[bytes]) -> list[object]:
        decoder, items = FrameDecoder(), []
        for piece in pieces:
            items += decoder.feed(piece)
            assert len(decoder._rest) <= 32
        return merged(items + decoder.finish())

    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in zip(edges, edges[1:])]
    whole = run([data])
    assert run(pieces) == whole
    assert run([data[i : i + 1] for i in range(len(data))]) == whole


@given(st.integers(1, 10))
def test_a_frame_that_was_stolen_is_put_together_again(cut: int) -> None:
    a, b = encode(3, 0x60, None, 0), encode(2, 0x61, None, 0)
    trace = decode(encode(0, 0xB0, None, 0) + a[:cut] + b + a[cut:] + encode(3, 0x61, None, 1))
    if cut == 1:  # `@@`: the stealer's frame looks like console text
        assert (2, 0x61, None) not in content(trace)
        return
    assert content(trace)[1:] == [(2, 0x61, None), (3, 0x60, None), (3, 0x61, None)]
    assert [frame.damaged for frame in trace.frames] == [False, False, True, False]
    assert kinds(trace)[0] in (DamageKind.TORN, DamageKind.UNTERMINATED)
    assert trace.console == ""


def test_a_torn_lead_byte_before_the_next_frame_is_doubtful() -> None:
    one, two = stream((2, 0x60, None), (2, 0x61, None))
    trace = decode(one + b"@" + two)
    assert kinds(trace) == [DamageKind.DOUBTFUL]
    assert content(trace) == [(2, 0x60, None)]


def test_a_head_without_its_tail_is_torn_and_its_frame_lost() -> None:
    one, two, three = stream(*[(3, code, None) for code in (0x10, 0x11, 0x12)])
    trace = decode(one + two[:6] + three)
    assert kinds(trace) == [DamageKind.TORN, DamageKind.LOST]
    assert trace.damage[0].text == "@03:11"
    assert (trace.damage[1].apic_id, trace.damage[1].lost) == (3, 1)


def test_a_tail_without_its_head_is_an_orphan() -> None:
    frames = stream((3, 0x10, None), (3, 0x11, None))
    assert kinds(decode(frames[0][5:] + frames[1])) == [DamageKind.ORPHAN, DamageKind.LOST]


@given(st.integers(1, 60), st.integers(1, 59))
def test_lost_frames_are_counted_modulo_16(total: int, lost: int) -> None:
    frames = stream(*[(5, 0x10 + n, n) for n in range(total + lost + 1)])
    trace = decode(b"".join(frames[:total] + frames[total + lost :]))
    reported = sum(damage.lost for damage in trace.damage)
    assert reported == lost % 16


def test_a_cpu_that_starts_again_did_not_lose_frames() -> None:
    first = stream((1, 0x10, None), (1, 0x11, None))
    trace = decode(b"".join(first + first))
    assert trace.damage == ()
    assert [frame.restarted for frame in trace.frames] == [False, False, True, False]


def test_frames_without_a_count_are_no_damage() -> None:
    frames = [uncounted(1, 0x10), uncounted(1, 0x11, 0xA), uncounted(300, 0x10), uncounted(1, 0x13)]
    trace = decode(b"".join(frames))
    assert content(trace) == [(1, 0x10, None), (1, 0x11, 0xA), (300, 0x10, None), (1, 0x13, None)]
    assert {frame.sequence for frame in trace.frames} == {None}
    assert trace.damage == ()


def test_frames_without_a_count_do_not_disturb_those_with_one() -> None:
    counted = stream(*[(1, code, None) for code in (0x10, 0x11, 0x12, 0x13)])
    trace = decode(uncounted(1, 0x80) + counted[0] + uncounted(1, 0x81) + counted[1] + counted[3])
    assert [frame.code for frame in trace.frames] == [0x80, 0x10, 0x81, 0x11, 0x13]
    assert [(damage.kind, damage.lost) for damage in trace.damage] == [(DamageKind.LOST, 1)]


@given(st.integers(2, 10))
def test_a_torn_frame_without_a_count_is_put_together_again(cut: int) -> None:
    a, b = uncounted(3, 0x60), encode(2, 0x61, None, 0)
    trace = decode(uncounted(3, 0x34) + a[:cut] + b + a[cut:])
    assert content(trace) == [(3, 0x34, None), (2, 0x61, None), (3, 0x60, None)]
    assert trace.console == ""


def test_firmware_text_before_the_first_frame_is_console_text() -> None:
    trace = decode(b"someone@home\nmail @bad.example\n" + encode(0, 0xB0, None, 0))
    assert trace.damage == ()
    assert trace.console == "someone@home\nmail @bad.example\n"


def test_escape_sequences_do_not_pass_and_do_not_swallow_frames() -> None:
    frame = encode(0, 0xB0, None, 0)
    trace = decode(b"\x1b[2J\x1b]0;title" + frame + b"\x07a\x9bb\x1b(B\xe2\x80\xaec\n")
    assert content(trace) == [(0, 0xB0, None)]
    assert "\x1b" not in trace.console and "\u202e" not in trace.console
    assert trace.console.endswith("c\n")


def test_unknown_codes_are_kept() -> None:
    assert [frame.code for frame in decode(encode(0, 0x77, 1, 0)).frames] == [0x77]


def test_a_stream_of_ever_new_cpus_stays_bounded() -> None:
    decoder = FrameDecoder()
    for apic_id in range(10_000):
        decoder.feed(encode(apic_id, 0x10, None, 0))
    assert len(decoder._cpus) <= 4096


def test_frame_is_a_stage_event() -> None:
    event = Frame(3, 0xC3, 7, 4, damaged=True).event("e9")
    assert (event.apic_id, event.code, event.argument, event.sequence) == (3, 0xC3, 7, 4)
    assert event.source == "e9" and event.damaged and event.tsc is None
