# SPDX-License-Identifier: BSD-2-Clause
#
# From sources to $(BUILD)/lamppost.elf and $(BUILD)/lamppost.iso.
#
#   TREE     the sources: the checkout, or a lab's patched copy of it
#   BUILD    where the products go
#   TRACE    0 leaves no trace of the stage protocol in the kernel
#   NR_CPUS  how many CPUs the kernel supports
#   PIE      1 builds a static PIE, which a loader may put elsewhere

TREE    ?= .
BUILD   ?= build
TRACE   ?= 1
NR_CPUS ?= 256
PIE     ?= 0

CC   = gcc
LD   = ld
# Started in TREE, so that line tables name files as the checkout does.
NASM = cd $(TREE) && nasm
OBJCOPY = objcopy
PYTHON  = /usr/bin/python3

# No red zone: an interrupt would overwrite it.  No SSE in C: interrupts do
# not save it.
CODE_0 = -fno-pic -mcmodel=kernel
CODE_1 = -fpie -mcmodel=small -fvisibility=hidden
CODE   = $(CODE_$(PIE))
LINK_1 = -pie --no-dynamic-linker -z text -z norelro \
	 -z pack-relative-relocs
CFLAGS = -std=gnu11 -ffreestanding $(CODE) \
	 -mgeneral-regs-only -mno-red-zone -fno-omit-frame-pointer \
	 -fno-stack-protector -fno-asynchronous-unwind-tables \
	 -O2 -g -Wall -Wextra -Werror -Wstrict-prototypes \
	 -Wmissing-prototypes -Wundef -Wshadow \
	 -fdebug-prefix-map=$(TREE)/= -fmacro-prefix-map=$(TREE)/= \
	 -I$(TREE)/src -DTRACE=$(TRACE) -DNR_CPUS=$(NR_CPUS) \
	 -DPIE=$(PIE)
NASMFLAGS = -f elf64 -g -F dwarf -w+all -w+error -w-unknown-warning -I$(abspath $(BUILD))/ -Itrampoline/ \
	    -DTRACE=$(TRACE) -DPIE=$(PIE)

# What is being made, a line each: make V=1 shows the commands, make -s nothing.
V ?=
Q   := $(if $(V),,@)
say := @$(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),:,printf '  %-4s %s\n')

# A macro's labels are no places that a person knows.
STRIP_MACRO_LABELS = $(OBJCOPY) --wildcard --strip-symbol='..@*'

C_SOURCES   := $(filter-out %/asm_constants.c,\
	         $(sort $(wildcard $(TREE)/src/*.c $(TREE)/src/*/*.c)))
ASM_SOURCES := $(sort $(wildcard $(TREE)/src/*/*.asm))
OBJECTS     := $(patsubst $(TREE)/src/%,$(BUILD)/kernel/%.o,\
	         $(C_SOURCES) $(ASM_SOURCES))
TRAMPOLINES := $(BUILD)/trampoline $(BUILD)/trampoline-stamp \
	       $(BUILD)/trampoline-skip
BLOBS       := $(TRAMPOLINES:%=%.bin) $(BUILD)/trampoline.reloc \
	       $(BUILD)/trampoline.sites
GENERATED   := $(BUILD)/constants.inc $(BUILD)/stages.inc $(BUILD)/stages.tsv
CONFIG      := $(BUILD)/config

.PHONY: kernel FORCE
kernel: $(BUILD)/lamppost.elf $(BUILD)/lamppost.iso

# The settings of the last build: what they change is built anew.
$(CONFIG): FORCE
	@mkdir -p $(BUILD)
	@echo '$(TRACE) $(NR_CPUS) $(PIE) $(TREE)' | cmp -s - $@ || \
	    echo '$(TRACE) $(NR_CPUS) $(PIE) $(TREE)' > $@

$(BUILD)/stages.inc: $(TREE)/trampoline/stages.h $(CONFIG)
	@$(PYTHON) -m debug.stages.generate --source $< --nasm $@ \
	    --tsv $(BUILD)/stages.tsv
$(BUILD)/stages.tsv: $(BUILD)/stages.inc

# C's view of constants and layouts, as NASM defines.
$(BUILD)/constants.inc: $(TREE)/src/asm_constants.c $(CONFIG)
	@$(CC) $(CFLAGS) -MMD -MP -MT $@ -MF $(BUILD)/constants.d -S -o - $< | \
	    sed -n 's/^\t->\([A-Z0-9_]*\) \$$/%define \1 /p' > $@

# The trampoline: linked by itself at 0, carried as data, once for each thing
# that a stage site can do (trampoline/stage.inc), with one layout.
$(BUILD)/trampoline-stamp.o: NASMFLAGS += -DTRACE_SITES=1
$(BUILD)/trampoline-skip.o: NASMFLAGS += -DTRACE_SITES=2
$(TRAMPOLINES:%=%.o): $(TREE)/trampoline/trampoline.asm \
		$(wildcard $(TREE)/trampoline/*.inc) $(GENERATED) $(CONFIG)
	$(say) ASM $@
	$(Q)$(NASM) $(NASMFLAGS) -o $(abspath $@) $(patsubst $(TREE)/%,%,$<)
	@$(STRIP_MACRO_LABELS) $@
	@if objdump -r -j .text16 $@ | grep R_X86_64; then \
	    echo "$<: a relocation survives in .text16: address data as" \
	         "label - trampoline" >&2; rm $@; exit 1; fi
$(TRAMPOLINES:%=%.elf): %.elf: %.o $(TREE)/trampoline/trampoline.ld
	$(Q)$(LD) -T $(TREE)/trampoline/trampoline.ld -o $@ $<
$(TRAMPOLINES:%=%.bin): %.bin: %.elf $(BUILD)/trampoline.elf
	@nm $< > $@.nm; nm $(BUILD)/trampoline.elf | cmp -s - $@.nm || { \
	    echo "$<: symbols differ from those of trampoline.elf: give" \
	         "the sites of trampoline/stage.inc one size" >&2; exit 1; }
	@$(OBJCOPY) -O binary -j .text16 -j .text32 -j .text64 $< $@
$(BUILD)/trampoline.reloc: $(BUILD)/trampoline.elf
	@$(OBJCOPY) -O binary --set-section-flags .reloc=alloc -j .reloc $< $@
$(BUILD)/trampoline.sites: $(BUILD)/trampoline.elf
	@: > $@; $(OBJCOPY) -O binary --set-section-flags \
	    .lamppost.sites=alloc -j .lamppost.sites $< $@

$(BUILD)/kernel/%.c.o: $(TREE)/src/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/kernel/%.asm.o: $(TREE)/src/%.asm $(GENERATED) $(CONFIG) \
		$(wildcard $(TREE)/trampoline/*.inc)
	@mkdir -p $(@D)
	$(say) ASM $<
	$(Q)$(NASM) $(NASMFLAGS) -o $(abspath $@) $(patsubst $(TREE)/%,%,$<)
	@$(STRIP_MACRO_LABELS) $@
$(BUILD)/kernel/smp/blob.asm.o: $(BLOBS)

$(BUILD)/kernel.ld: $(TREE)/src/kernel.ld $(TREE)/src/mm/layout.h $(CONFIG)
	@$(CC) -E -P -x c -I$(TREE)/src -DPIE=$(PIE) -o $@ $<
$(BUILD)/lamppost.elf: $(OBJECTS) $(BUILD)/kernel.ld
	$(say) LD $@
	$(Q)$(LD) -T $(BUILD)/kernel.ld -z max-page-size=0x1000 -z noexecstack \
	    --no-warn-rwx-segments $(LINK_$(PIE)) \
	    -o $@ $(OBJECTS)
	@if readelf -rW $@ | grep R_X86_64; then \
	    echo "$@: expected no relocation but the relative ones in .relr.dyn," \
	         "which the entry code applies" >&2; rm $@; exit 1; fi

# One image for BIOS and UEFI machines: QEMU, Bochs, and a USB stick.
GRUB_OPTIONS ?=
# GRUB's EFI image asks for every kind of partition, and says what it misses.
GRUB_MODULES = multiboot2 normal iso9660 mmap $(addprefix part_,acorn amiga apple \
	       bsd dfly dvh gpt msdos plan sun sunpc)
grub_cfg = sed 's|@OPTIONS@|$(GRUB_OPTIONS)|' $(TREE)/src/boot/grub.cfg
$(BUILD)/grub.cfg: FORCE
	@mkdir -p $(BUILD)
	@$(grub_cfg) | cmp -s - $@ || $(grub_cfg) > $@
$(BUILD)/lamppost.iso: $(BUILD)/lamppost.elf $(BUILD)/grub.cfg
	$(say) ISO $@
	@rm -rf $(BUILD)/iso && mkdir -p $(BUILD)/iso/boot/grub
	@cp $< $(BUILD)/iso/boot/lamppost.elf
	@cp $(BUILD)/grub.cfg $(BUILD)/iso/boot/grub/grub.cfg
	@grub-mkrescue -o $@ $(BUILD)/iso \
	    --install-modules="$(GRUB_MODULES)" \
	    --locales= --fonts= --themes= > $(BUILD)/iso.log 2>&1 || \
	    { cat $(BUILD)/iso.log >&2; rm -f $@; exit 1; }

-include $(patsubst %.o,%.d,$(filter %.c.o,$(OBJECTS))) $(BUILD)/constants.d
