/* SPDX-License-Identifier: BSD-2-Clause */
/* Self-tests of the memory: each says whether its claim holds. */
#pragma once

#include <stdbool.h>

bool no_page_is_writable_and_executable(void);
bool image_has_its_permissions(void);
bool stacks_have_guard_pages(void);
bool device_pages_are_uncached(void);
bool frames_come_back(void);
bool heap_works(void);
