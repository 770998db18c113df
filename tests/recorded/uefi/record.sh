#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Record what OVMF prints on the serial port of the exceptions that app.asm raises.
#
#   ./record.sh
#
# It needs the packages ovmf and ovmf-ia32. What the boot manager prints before is left out.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
firmware=/usr/share/OVMF

# record NAME APPLICATION QEMU-OPTION...
record() {
    name=$1 application=$2
    shift 2
    rm -f "$work/serial"
    timeout 60 qemu-system-x86_64 -m 128 -display none -net none "$@" \
        -serial "file:$work/serial" -drive "format=raw,file=fat:rw:$work/$application" 2>/dev/null &
    until grep -aq '^!!!! \(Find\|Can\).*!!!!' "$work/serial" 2>/dev/null; do
        kill -0 $! || exit 1
        sleep 0.1
    done
    kill $!
    wait $! || true
    sed -n '/^!!!! [XI]/,$p' "$work/serial" >"$name.txt"
}

for case in read write call call_null non_canonical selector divide ud2; do
    mkdir -p "$work/$case/EFI/BOOT"
    nasm -f bin -D "CASE_$case" app.asm -o "$work/$case/EFI/BOOT/BOOTX64.EFI"
    record "$case" "$case" -bios /usr/share/ovmf/OVMF.fd
done

for case in selector divide; do
    mkdir -p "$work/ia32-$case/EFI/BOOT"
    nasm -f bin -D IA32 -D "CASE_$case" app.asm -o "$work/ia32-$case/EFI/BOOT/BOOTIA32.EFI"
    cp "$firmware/OVMF32_VARS_4M.fd" "$work/variables"
    record "ia32-$case" "ia32-$case" -machine q35,smm=on \
        -drive "if=pflash,format=raw,unit=0,readonly=on,file=$firmware/OVMF32_CODE_4M.secboot.fd" \
        -drive "if=pflash,format=raw,unit=1,file=$work/variables"
done
