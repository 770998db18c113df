# SPDX-License-Identifier: BSD-2-Clause
#
# The front door.  `make help` lists every target.

.DEFAULT_GOAL := all
.SECONDEXPANSION:

include src/kernel.mk
include tests/host/host.mk

CPUS     ?= 4
OPTIONS  ?=
EMULATOR ?= qemu
ACCEL    ?= tcg
LABS     ?=
LAB      ?=
GUESS    ?=
HEADLESS ?=

# Python compiled once, and out of the way: a command starts in half the time.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX = $(CURDIR)/build/python

LAMPPOST = $(PYTHON) -m debug.kernel
# Given to commands that have a form for tests: no terminal, an exit code.
headless = $(if $(HEADLESS),--headless)
# A kernel that a lab built is taken as it is, ours is brought up to date.
own      = $(if $(filter build/labs/% build/mystery,$(BUILD)),,kernel)
machine  = --build $(BUILD) --cpus $(CPUS) --options '$(OPTIONS)'

# ---------------------------------------------------------------- for everybody

# No target is a file: none that is written here by its name alone.
.PHONY: $(shell sed -n 's/^\([a-z][a-z-]*\):.*/\1/p' Makefile)
help: ## list the targets
	@echo 'Targets:'
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo 'Settings:'
	@echo '  CPUS=4            how many CPUs the machine has'
	@echo '  OPTIONS="..."     the kernel command line (docs/boot-options.md)'
	@echo '  LAB=id            the lab, for diagnose and lab (random: a mystery)'
	@echo '  GUESS=row         for diagnose: is this row of the failure table the cause?'
	@echo '  AT=address        or a symbol: what picture-walk walks to'
	@echo '  EMULATOR=qemu     or bochs, for diagnose and lab'
	@echo '  ACCEL=kvm         for run and stages, where the KVM of this host runs the kernel'
	@echo '  TRACE=0           build the kernel without the stage protocol'
	@echo '  PIE=1             build it as a static PIE, which may lie anywhere below 1 GiB'
	@echo '  HEADLESS=1        run, bochs, gdb: no terminal, for scripts and CI'

all: setup kernel ## build the kernel and the ISO

demo: setup kernel ## four CPUs come up, then a broken build is explained
	@$(LAMPPOST) demo $(machine)

run: setup $(own) ## boot the kernel under QEMU in this terminal
	@$(LAMPPOST) run $(machine) $(headless) --accel $(ACCEL)

bochs: GRUB_OPTIONS = $(OPTIONS)
bochs: setup $(own) ## boot it under Bochs, stopping at every mode switch
	@$(LAMPPOST) bochs $(machine) $(headless)

gdb: setup $(own) ## boot it stopped, with GDB and the lamp commands attached
	@$(PYTHON) -m debug.gdb.session --cpus $(CPUS) --options '$(OPTIONS)' \
	    --kernel $(BUILD)/lamppost.elf \
	    $(if $(HEADLESS),--batch $(or $(SCRIPT),debug/gdb/tour.gdb))

diagnose: setup ## boot LAB=id on EMULATOR=qemu|bochs and explain its death
	@$(PYTHON) -m debug.labs diagnose '$(LAB)' \
	    --emulator $(EMULATOR) $(if $(GUESS),--guess '$(GUESS)')

lab: setup ## build LAB=id (or random) and boot it, for you to find the bug
	@$(PYTHON) -m debug.labs lab $(or $(LAB),random) $(headless) \
	    --emulator $(EMULATOR)

labs: setup ## every lab on both emulators: the matrix (LABS='ap-*')
	@$(PYTHON) -m debug.labs labs $(if $(filter-out file,$(origin EMULATOR)),\
	    --emulator $(EMULATOR)) $(foreach lab,$(LABS),'$(lab)')

labs-newer: setup ## every lab on the QEMU of Debian's backports
	@tests/newer-qemu build/newer-qemu
	@PATH="$(CURDIR)/build/newer-qemu/bin:$$PATH" $(PYTHON) -m debug.labs labs \
	    --emulator qemu $(foreach lab,$(LABS),'$(lab)')

reports: setup ## the labs' reports anew, for docs/failure-table.md
	@$(PYTHON) -m debug.labs labs --emulator qemu --keep \
	    $(foreach lab,$(LABS),'$(lab)')
	@$(PYTHON) -m debug.failures.document

stages: setup $(own) ## boot under QEMU and show the stages as a timeline
	@$(LAMPPOST) stages $(machine) --accel $(ACCEL)

picture-%: setup kernel ## draw an SVG: picture-stages, -chain, -memory, -walk
	@$(PYTHON) -m debug.labs picture '$*' --lab '$(LAB)' --at '$(AT)' \
	    $(if $(filter-out file,$(origin CPUS)),--cpus $(CPUS)) \
	    --options '$(OPTIONS)'

pictures: setup kernel ## draw the chapters' pictures again
	@$(PYTHON) -m debug.labs picture all

iso: setup $$(BUILD)/lamppost.iso ## one image for QEMU, Bochs and a USB stick
	@echo $(BUILD)/lamppost.iso

# Watching a machine that hangs is mostly waiting: one test more than CPUs.
test: setup-test kernel test-host ## everything that must pass
	@$(PYTHON) -m pytest -q -n $$(($$(nproc) + 1)) tests

tutorial: setup-test kernel ## execute every line of the tutorial
	@LAMPPOST_TUTORIAL=all $(PYTHON) -m pytest -q -n $(shell nproc) tests/tutorial

tutorial-update: setup-test kernel ## write what the chapters' commands print into them
	@$(PYTHON) -m tests.tutorial $(CHAPTER)

website: setup ## the chapters and reference pages as a site: build/website
	@$(TREE)/tests/setup website
	@$(PYTHON) -m docs.website

website-check: website ## look at the site with Chromium: links, contrast, phones
	@$(TREE)/tests/setup website browser test
	@$(PYTHON) -m pytest -q tests/website tests/website/in_browser.py

pristine: ## put the sources back as they were cloned; git stash keeps your changes
	@git stash push -q -- src trampoline bochsrc

check-%: setup $$(BUILD)/lamppost.elf # a chapter's exercise: your trace against the expected one
	@$(PYTHON) -m tests.tutorial.check $* --build $(BUILD)

# An exercise for Bochs needs the ISO.
check-13: $$(BUILD)/lamppost.iso

sweep: setup kernel ## healthy kernels, ours and others, RUNS=20 times: no false alarm
	@$(PYTHON) -m tests.sweep --runs $(or $(RUNS),20)

machines: setup-test ## other people's machines, healthy and broken (MACHINES='xen-*')
	@$(PYTHON) -m tests.machines $(foreach machine,$(MACHINES),'$(machine)')

fuzz: setup ## 10000 damaged logs: no crash, no hang, no new certainty (RUNS=, FILES=)
	@$(PYTHON) -m tests.fuzz $(if $(RUNS),--runs $(RUNS)) $(FILES)

endurance: setup-test ## boot RUNS=1000 times, a tenth on Bochs, some with 64 CPUs: none may fail
	@$(PYTHON) -m tests.endurance --runs $(or $(RUNS),1000)

bench-peers: setup kernel ## our bring-up beside memtest86+, Xen and Linux (CPUS=64, RUNS=3)
	@$(PYTHON) -m tests.bench.peers --rounds $(or $(RUNS),3) \
	    --cpus $(if $(filter file,$(origin CPUS)),64,$(CPUS))

bench: setup kernel ## what tracing costs, and what each CPU costs
	@$(PYTHON) -m tests.bench

bench-explain: setup ## what explaining a log of 1 GiB costs, beside grep
	@$(PYTHON) -m tests.bench.long_log

bench-run: setup ## what lamppost run costs Linux, and how soon a death is told
	@$(PYTHON) -m tests.bench.foreign $(if $(RECORD),--record)

readme: setup kernel ## write the real output of make demo into README.md
	@$(LAMPPOST) readme $(machine)

generate: ## make the committed generated files again
	@$(PYTHON) -m debug.stages.generate
	@$(PYTHON) -m debug.failures.document
	@$(PYTHON) -m debug.kernel.options_document
	@$(PYTHON) -m debug.kernel.facts
	@$(PYTHON) -m tests.tutorial.index
	@$(PYTHON) -m debug.cli.described.man
	@$(PYTHON) -m debug.cli.described.document

setup: ## install the Debian packages that are missing
	@$(TREE)/tests/setup run
setup-test:
	@$(TREE)/tests/setup run test website

clean: ## remove the build
	rm -rf build
