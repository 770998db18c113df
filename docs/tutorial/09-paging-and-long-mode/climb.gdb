# SPDX-License-Identifier: BSD-2-Clause
# The first AP at each lamp from 30 to 60, and the registers that make its mode.
disable

define climb
    lamp break AP_$arg0
    continue
    printf "climb: CR0 %08x  CR4 %02x  CR3 %6x  EFER %03x  CS %02x  at $arg0\n", \
        $cr0, $cr4, $cr3, $efer, $cs
end

climb PROT32
climb PAE
climb CR3
climb LME
climb PG
climb LONG64
