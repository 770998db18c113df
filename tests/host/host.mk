# SPDX-License-Identifier: BSD-2-Clause
#
# The kernel's pure C, run on the host under ASan and UBSan.  Included by the
# top Makefile; works by itself too: make -f tests/host/host.mk test-host
#
#   test-host        build and run every test_*.c
#   host-tools       what test_host.py drives: madt_cpus, frames

TREE  ?= .
BUILD ?= build

HOST       := $(BUILD)/host
HOST_TESTS := $(patsubst $(TREE)/tests/host/%.c,%,\
	        $(sort $(wildcard $(TREE)/tests/host/test_*.c)))
HOST_TOOLS := madt_cpus frames
comma := ,
HOST_CFLAGS = -std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-unused-parameter \
	      -fsanitize=address,undefined -fno-sanitize-recover=all \
	      -fno-omit-frame-pointer -DTRACE=1 -I$(TREE)/src \
	      -I$(TREE)/tests/host
# The kernel's own memcpy and friends, beside libc's.
HOST_RENAME = $(foreach f,memcpy memmove memset memcmp strlen strcmp strncmp,\
	        -D$(f)=kernel_$(f))

# What each program is made of, beside its own source.
HOST_OF_test_bootinfo   := src/boot/bootinfo.c
HOST_OF_test_buddy      := src/mm/buddy.c
HOST_OF_test_heap       := src/mm/heap.c
HOST_OF_test_madt       := src/acpi/madt.c
HOST_OF_test_options    := src/boot/options.c src/lib/printf.c
HOST_OF_test_printf     := src/lib/printf.c
HOST_OF_test_string     :=
HOST_OF_test_trace      := src/trace/trace.c tests/host/ports.c
HOST_OF_test_trampoline := src/smp/trampoline.c
HOST_OF_frames          := src/trace/trace.c tests/host/ports.c
HOST_OF_madt_cpus       := src/acpi/madt.c

HOST_CFLAGS_test_trampoline = -Dmemcpy=lossy_memcpy

# What several threads use at once, under ThreadSanitizer too.
HOST_TSAN := test_heap-tsan

.PHONY: test-host host-tools
test-host: $(addprefix $(HOST)/,$(HOST_TESTS) $(HOST_TSAN))
	@for test in $^; do $$test || exit 1; done
host-tools: $(addprefix $(HOST)/,$(HOST_TOOLS))

.SECONDEXPANSION:
$(HOST)/%: $(TREE)/tests/host/%.c $$(addprefix $(TREE)/,$$(HOST_OF_$$*))
	@mkdir -p $(@D)
	@gcc $(HOST_CFLAGS) $(HOST_CFLAGS_$*) -MMD -MP -MF $@.d -o $@ \
	    $(filter %.c,$^) -lcmocka -pthread
$(HOST)/%-tsan: $(TREE)/tests/host/%.c $$(addprefix $(TREE)/,$$(HOST_OF_$$*))
	@mkdir -p $(@D)
	@gcc $(subst address$(comma)undefined,thread,$(HOST_CFLAGS)) -MMD -MP \
	    -MF $@.d -o $@ $(filter %.c,$^) -lcmocka -pthread
$(HOST)/test_string: $(HOST)/kernel_string.o
$(HOST)/test_string: HOST_CFLAGS_test_string = $(HOST)/kernel_string.o
$(HOST)/kernel_string.o: $(TREE)/src/lib/string.c
	@mkdir -p $(@D)
	@gcc $(HOST_CFLAGS) -ffreestanding -fno-builtin $(HOST_RENAME) -c -o $@ $<

-include $(addprefix $(HOST)/,$(addsuffix .d,$(HOST_TESTS) $(HOST_TSAN) $(HOST_TOOLS)))
