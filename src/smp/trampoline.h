/* SPDX-License-Identifier: BSD-2-Clause */
/* The trampoline as the kernel sees it: an image, its parameters, its
 * relocations, and the page that it is copied to. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Eight bytes into the image (trampoline/trampoline.asm). */
#define TRAMPOLINE_PARAMETERS 8

struct trampoline_parameters {
    uint32_t cr3;  /* physical address of the PML4, below 4 GiB */
    uint32_t efer; /* LME, and NXE where the CPU has it */
    uint32_t lcpu_count;
    uint16_t trace_segment; /* of the trace control block: address >> 4 */
    uint16_t reserved;
    uint64_t lcpus; /* linear address of lcpu_table[] */
};

/* One word of the image that holds an address within the image: the target
 * page's address is added when it is copied. */
struct trampoline_relocation {
    uint32_t place;  /* offset of a 32-bit word */
    uint32_t target; /* offset that it must point to */
};

enum trampoline_error {
    TRAMPOLINE_OK,
    TRAMPOLINE_TOO_LARGE,      /* image longer than a page */
    TRAMPOLINE_BAD_PAGE,       /* not page aligned, or not reachable by SIPI */
    TRAMPOLINE_BAD_RELOCATION, /* place or target outside the image */
    TRAMPOLINE_NOT_WRITABLE,   /* what was written does not read back */
};

/*
 * Copy `size` bytes of `image` to `page`, which will run at the physical
 * address `address`, filling the rest with 0xCC (INT3) first, and apply
 * `count` relocations.  Pure but for *page: runs on the host in tests.
 */
enum trampoline_error
trampoline_install(uint8_t *page, uint64_t address, const uint8_t *image,
                   size_t size, const struct trampoline_relocation *relocation,
                   size_t count);

/* The same with the kernel's own image for the sinks that are chosen. */
enum trampoline_error trampoline_install_own(uint8_t *page, uint64_t address);

const char *trampoline_error_text(enum trampoline_error error);

/* Install the kernel's own trampoline at physical `address`, fill in its
 * parameters and map the page for the APs.  Ends the machine with a message
 * if it can't be done. */
void trampoline_prepare(uint64_t address);
/* Take the identity mapping away again, when no CPU executes the page. */
void trampoline_retire(uint64_t address);
