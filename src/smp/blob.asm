; SPDX-License-Identifier: BSD-2-Clause
;
; The trampoline as data: its image, its relocations, and its stage sites; and
; the stage table as text, for decoders.

section .rodata progbits alloc noexec nowrite align=16

global trampoline_image, trampoline_image_end
global trampoline_relocations, trampoline_relocations_end
trampoline_image:
    incbin "trampoline.bin"
trampoline_image_end:
    align 4, db 0
trampoline_relocations:
    incbin "trampoline.reloc"
trampoline_relocations_end:

section .lamppost.sites progbits noalloc
    incbin "trampoline.sites"

section .lamppost.stages progbits noalloc
    incbin "stages.tsv"
