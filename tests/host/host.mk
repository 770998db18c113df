# SPDX-License-Identifier: BSD-2-Clause
#
# The kernel's pure C, run on the host under ASan and UBSan.  Included by the
# top Makefile; works by itself too: make -f tests/host/host.mk test-host
#
#   test-host        build and run every test_*.c
#   host-tools       what test_host.py drives: madt_cpus, frames
#   host-mutants     programs that must fail

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
HOST_TSAN_CFLAGS = $(subst address$(comma)undefined,thread,$(HOST_CFLAGS))
host_machine = $(if $(filter $(HOST_MACHINE),$*),-I$(TREE)/tests/host/machine)
# The kernel's own memcpy and friends, beside libc's.
HOST_RENAME = $(foreach f,memcpy memmove memset memcmp strlen strcmp strncmp,\
	        -D$(f)=kernel_$(f))

# What each program is made of, beside its own source.
HOST_OF_test_barrier    := src/smp/barrier.c tests/host/machine.c
HOST_OF_test_bootinfo   := src/boot/bootinfo.c
HOST_OF_test_buddy      := src/mm/buddy.c src/smp/spinlock.c \
			   tests/host/machine.c
HOST_OF_test_heap       := src/mm/heap.c src/smp/spinlock.c \
			   tests/host/machine.c
HOST_OF_test_deque      := src/sched/deque.c
HOST_OF_test_madt       := src/acpi/madt.c
HOST_OF_test_options    := src/boot/options.c src/lib/printf.c
HOST_OF_test_printf     := src/lib/printf.c
HOST_OF_test_spinlock   := src/smp/spinlock.c tests/host/machine.c
HOST_OF_test_string     :=
HOST_OF_test_trace      := src/trace/trace.c tests/host/ports.c
HOST_OF_test_trampoline := src/smp/trampoline.c
HOST_OF_test_wait       := src/sched/wait.c src/smp/spinlock.c \
			   tests/host/machine.c
HOST_OF_frames          := src/trace/trace.c tests/host/ports.c
HOST_OF_madt_cpus       := src/acpi/madt.c

HOST_CFLAGS_test_trampoline = -Dmemcpy=lossy_memcpy

# These ask for their CPU: a thread of the host is one (machine.h).
HOST_MACHINE := test_barrier test_buddy test_heap test_spinlock test_wait

# What several CPUs use at once, under ThreadSanitizer too.
HOST_TSAN := $(addsuffix -tsan,test_barrier test_buddy test_deque test_heap \
	       test_madt test_spinlock test_wait)

# Sources with one memory order weakened (mutants/NAME.patch), and the test
# that must catch it: test_host.py wants these programs to fail.
HOST_MUTANTS := mutant-deque-take mutant-deque-publication-tsan

.PHONY: test-host host-tools host-mutants
test-host: $(addprefix $(HOST)/,$(HOST_TESTS) $(HOST_TSAN))
	@for test in $^; do $$test || exit 1; done
host-tools: $(addprefix $(HOST)/,$(HOST_TOOLS))
host-mutants: $(addprefix $(HOST)/,$(HOST_MUTANTS))

.SECONDEXPANSION:
$(HOST)/%: $(TREE)/tests/host/%.c $$(addprefix $(TREE)/,$$(HOST_OF_$$*))
	@mkdir -p $(@D)
	@gcc $(host_machine) $(HOST_CFLAGS) $(HOST_CFLAGS_$*) -MMD -MP -MF $@.d -o $@ \
	    $(filter %.c,$^) -lcmocka -pthread
$(HOST)/%-tsan: $(TREE)/tests/host/%.c $$(addprefix $(TREE)/,$$(HOST_OF_$$*))
	@mkdir -p $(@D)
	@gcc $(host_machine) $(HOST_TSAN_CFLAGS) -MMD -MP \
	    -MF $@.d -o $@ $(filter %.c,$^) -lcmocka -pthread
$(HOST)/test_string: $(HOST)/kernel_string.o
$(HOST)/test_string: HOST_CFLAGS_test_string = $(HOST)/kernel_string.o
$(HOST)/kernel_string.o: $(TREE)/src/lib/string.c
	@mkdir -p $(@D)
	@gcc $(HOST_CFLAGS) -ffreestanding -fno-builtin $(HOST_RENAME) -c -o $@ $<

$(HOST)/mutants/%.c: $(TREE)/tests/host/mutants/%.patch \
		$(TREE)/src/sched/deque.c
	@mkdir -p $(@D)
	@patch -s -F 0 -o $@ $(TREE)/src/sched/deque.c $<
# Unsanitized: the race needs the speed.
$(HOST)/mutant-deque-%: $(TREE)/tests/host/test_deque.c \
		$(HOST)/mutants/deque-%.c
	@gcc $(filter-out -fsanitize=%,$(HOST_CFLAGS)) -o $@ $^ -lcmocka -pthread
$(HOST)/mutant-deque-%-tsan: $(TREE)/tests/host/test_deque.c \
		$(HOST)/mutants/deque-%.c
	@gcc $(HOST_TSAN_CFLAGS) -o $@ $^ -lcmocka -pthread

-include $(addprefix $(HOST)/,$(addsuffix .d,$(HOST_TESTS) $(HOST_TSAN) $(HOST_TOOLS)))
