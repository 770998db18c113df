# SPDX-License-Identifier: BSD-2-Clause
"""The boot sectors of this folder as floppy images."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 120  # seconds for NASM on a busy host


def assembled(name: str, folder: Path, *defines: str) -> Path:
    """The image that `name`.asm becomes with these definitions.  Raises CalledProcessError."""
    image = folder / "foreign.img"
    words = ["-f", "bin", "-I", f"{HERE}/", *(f"-D{word}" for word in defines)]
    source = str(HERE / f"{name}.asm")
    subprocess.run(["nasm", *words, source, "-o", str(image)], check=True, timeout=LIMIT)
    return image
