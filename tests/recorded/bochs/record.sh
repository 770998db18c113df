#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Record Bochs's own logs of the guest in this directory: what expected.json reads.
#
#   ./record.sh
#
# The lines that list plug-ins, CPUID leaves and CPU features are left out.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SDL_VIDEODRIVER=dummy TERM=dumb

# record NAME CASE [setting...]
record() {
    name=$1 case=$2
    shift 2
    nasm -f bin -D "CASE_$case" guest.asm -o "$work/guest.img"
    # shellcheck disable=SC2016
    printf 'c\nq\n' | timeout "${limit:-20}" bochs -qf ../../../bochsrc 'ata0-master: type=none' \
        "floppya: 1_44=$work/guest.img, status=inserted" 'boot: floppy' \
        'com1: enabled=0' "log: $work/log" 'cpu: ips=4000000' "$@" >"$work/out" 2>&1 || true
    grep -vE 'PLUGIN|CPUID\[|lt_dlhandle|	|init_dev|inhibit interrupts|page walk' "$work/log" |
        sed "s|$work/||g; s/0x7f[0-9a-f]*/0x0/g" >"$name.log"
}

detail='debug: cpu0=report, apic0=report, cpu1=report, apic1=report'
record long64 long64 'cpu: count=2'
record long64-fatal long64 'cpu: count=2' 'panic: action=fatal'
record long64-resetting long64 'cpu: count=2, reset_on_triple_fault=1'
record long64-detailed long64 'cpu: count=2' "$detail"
record ap64-detailed ap64 'cpu: count=2' "$detail"
record ap32 ap32 'cpu: count=2'
record real16-detailed real16 'cpu: count=1' 'debug: cpu0=report'
record gp-detailed gp 'cpu: count=1' 'debug: cpu0=report'
limit=2 record halt halt 'cpu: count=1'
record exit exit 'cpu: count=1'

# A session with the debugger, from its first prompt on, with all that it can show of memory.
nasm -f bin -D CASE_long64 guest.asm -o "$work/guest.img"
printf '%s\n' c 'info gdt 0 3' 'info tss' sreg creg r 'page 0x7c00' 'page 0x500000000' \
    'xp /8bx 0x7c00' 'x /8wx 0x7c00' 'x /4gx 0x7c00' 'xp /8hx 0x7c20' q |
    timeout 20 bochs -qf ../../../bochsrc 'ata0-master: type=none' \
        "floppya: 1_44=$work/guest.img, status=inserted" 'boot: floppy' 'com1: enabled=0' \
        "log: $work/log" 'cpu: ips=4000000' 'cpu: count=2' 2>/dev/null |
    sed -n '/^<bochs:1>/,$p' >session.txt
