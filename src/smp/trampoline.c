/* SPDX-License-Identifier: BSD-2-Clause */
/* Installing the trampoline: pure, so that tests run it on the host. */
#include "smp/trampoline.h"

#include "lib/string.h"
#include "mm/layout.h"

/* INT3: an AP that runs past the image, or starts in the wrong place of the
 * page, says so with its first byte. */
#define TRAMPOLINE_POISON 0xcc

static bool inside(uint32_t offset, size_t length, size_t size)
{
    return offset <= size && length <= size - offset;
}

enum trampoline_error
trampoline_install(uint8_t *page, uint64_t address, const uint8_t *image,
                   size_t size, const struct trampoline_relocation *relocation,
                   size_t count)
{
    if (size > PAGE_SIZE)
        return TRAMPOLINE_TOO_LARGE;
    if (address % PAGE_SIZE || address >= LOW_MEMORY_END)
        return TRAMPOLINE_BAD_PAGE;

    memset(page, TRAMPOLINE_POISON, PAGE_SIZE);
    memcpy(page, image, size);
    if (memcmp(page, image, size))
        return TRAMPOLINE_NOT_WRITABLE;

    for (size_t i = 0; i < count; i++) {
        uint32_t word;
        if (!inside(relocation[i].place, sizeof word, size) ||
            !inside(relocation[i].target, 1, size))
            return TRAMPOLINE_BAD_RELOCATION;
        word = (uint32_t)address + relocation[i].target;
        memcpy(page + relocation[i].place, &word, sizeof word);
        if (memcmp(page + relocation[i].place, &word, sizeof word))
            return TRAMPOLINE_NOT_WRITABLE;
    }
    return TRAMPOLINE_OK;
}

const char *trampoline_error_text(enum trampoline_error error)
{
    switch (error) {
    case TRAMPOLINE_OK: return "no error";
    case TRAMPOLINE_TOO_LARGE: return "the image is longer than a page";
    case TRAMPOLINE_BAD_PAGE: return "a SIPI can't start an AP at this address";
    case TRAMPOLINE_BAD_RELOCATION:
        return "a relocation points outside the image";
    case TRAMPOLINE_NOT_WRITABLE:
        return "what was written there does not read back: the page is no "
               "writable memory";
    }
    return "unknown error";
}
