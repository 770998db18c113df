# SPDX-License-Identifier: BSD-2-Clause
"""A kernel built with TRACE=0 boots as well, and lights no lamp."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boot import machine, verdict

pytestmark = pytest.mark.emulator


@pytest.mark.parametrize("options", ["selftest", "selftest smp=serial"])
def test_it_boots_without_a_frame(untraced_kernel: Path, options: str) -> None:
    image = machine.kernel_image(untraced_kernel, options)
    with machine.qemu(image, "4", ["-accel", machine.SINGLE]) as guest:
        boot = guest.run()
    assert boot.exit_code == verdict.exit_codes()["OK"] << 1 | 1
    for stream in (boot.e9, boot.com1):
        trace = verdict.decode_whole(stream, "stream")
        assert trace.frames == ()
        assert "4 of 4 CPUs online\n" in trace.console
