#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# build.sh: build/foreign/kernel.asm to build/foreign/kernel.elf, as its owner would.
set -eu
cd "${BUILD:-build/foreign}"
nasm -f elf32 -g -F dwarf -o kernel.o kernel.asm
ld -m elf_i386 -Ttext 0x100000 -e start -z noexecstack --no-warn-rwx-segments -o kernel.elf kernel.o
