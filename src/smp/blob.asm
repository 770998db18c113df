; SPDX-License-Identifier: BSD-2-Clause
;
; The trampoline as data: its images, which differ in what a stage site does
; (trampoline/stage.inc), their relocations and stage sites; and the stage
; table as text, for decoders.

section .rodata progbits alloc noexec nowrite align=16

global trampoline_image, trampoline_image_end
global trampoline_stamp_image, trampoline_stamp_image_end
global trampoline_skip_image, trampoline_skip_image_end
global trampoline_relocations, trampoline_relocations_end
trampoline_image:
    incbin "trampoline.bin"
trampoline_image_end:
trampoline_stamp_image:
    incbin "trampoline-stamp.bin"
trampoline_stamp_image_end:
trampoline_skip_image:
    incbin "trampoline-skip.bin"
trampoline_skip_image_end:
    align 4, db 0
trampoline_relocations:
    incbin "trampoline.reloc"
trampoline_relocations_end:

section .lamppost.sites progbits noalloc
    incbin "trampoline.sites"

section .lamppost.stages progbits noalloc
    incbin "stages.tsv"
