# SPDX-License-Identifier: BSD-2-Clause
"""Building a lab: a patched copy of the sources, and the kernel made from it.

Where the kernel itself was built, a lab begins with its objects: make builds what the patch touches.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from debug.kernel.checkout import changed_sources
from debug.kernel.machine import ROOT, Kernel
from debug.labs.lab import Lab, LabError

SOURCES = ("src", "trampoline")
KERNEL = ROOT / "build"
# What src/kernel.mk keeps of its settings: the defaults, and where the sources are.
CONFIG = "1 256 0 {}\n"
# Products that a lab can begin with, where its own sources are no newer.
OBJECTS = ("*.inc", "*.tsv", "*.d", "kernel.ld", "trampoline*")
SOURCE = re.compile(r"(?m)(^|\s)(src|trampoline)/")


def apply_patch(lab: Lab, tree: Path) -> None:
    """Copy the sources to `tree` and break them.  Raises LabError where a hunk does not fit."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name)
    if lab.patch is None:
        return
    done = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-i", str(lab.patch)],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = changed_sources() or f"{lab.patch}: {done.stdout}{done.stderr}"
        raise LabError(f"{lab.id}: its patch does not fit these sources; {why}")


def build(lab: Lab, target: str = "lamppost.elf", name: str = "") -> Kernel:
    """The lab's kernel, built in build/labs/ID, or in build/`name`.

    Two processes may ask for the same one.
    """
    where = ROOT / "build" / (name or f"labs/{lab.id}")
    where.mkdir(parents=True, exist_ok=True)
    with open(where / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree, fresh = where / "tree", where / "fresh"
        if not tree.is_dir():
            _begin_with_the_kernel(where, tree)
        apply_patch(lab, fresh)
        _update(fresh, tree)
        shutil.rmtree(fresh)
        done = subprocess.run(
            [
                *("make", "-s", "-C", str(ROOT), "-f", "src/kernel.mk"),
                *(f"TREE={tree.relative_to(ROOT)}", f"BUILD={where.relative_to(ROOT)}"),
                f"GRUB_OPTIONS={lab.options}",
                str((where / target).relative_to(ROOT)),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LabError(f"{lab.id}: does not build\n{done.stdout}{done.stderr}")
    return Kernel(where, lab.cpus, lab.options)


def _begin_with_the_kernel(where: Path, tree: Path) -> None:
    """Give a lab the kernel's sources and objects, as old as they are, if they are of its kind."""
    config = KERNEL / "config"
    if not config.is_file() or config.read_text() != CONFIG.format("."):
        return
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name)
    shutil.copytree(KERNEL / "kernel", where / "kernel", dirs_exist_ok=True)
    for product in (path for pattern in OBJECTS for path in KERNEL.glob(pattern)):
        shutil.copy2(product, where)
    here, there = (path.relative_to(ROOT) for path in (where, tree))
    for rules in where.rglob("*.d"):
        text = SOURCE.sub(rf"\g<1>{there}/\2/", rules.read_text())
        rules.write_text(text.replace("build/", f"{here}/", 1))
    # Last: without it make takes none of them.
    (where / "config").write_text(CONFIG.format(there))
    age = config.stat()
    os.utime(where / "config", ns=(age.st_atime_ns, age.st_mtime_ns))


def _update(fresh: Path, tree: Path) -> None:
    """Bring `tree` to what `fresh` is, touching only what differs: make builds only that."""
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        if path.relative_to(tree) not in wanted:
            path.unlink()
    for name in wanted:
        new, old = fresh / name, tree / name
        if not old.is_file() or old.read_bytes() != new.read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, old)
