/* SPDX-License-Identifier: BSD-2-Clause */
/* cmocka with the headers that it wants before it, and numbers by chance
 * that are the same in every run. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* xorshift64*: not for secrets. */
static inline uint32_t chance(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * 0x2545f4914f6cdd1d >> 32);
}

static inline uint32_t below(uint32_t limit)
{
    return chance() % limit;
}
