/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's string functions, renamed kernel_*; libc's are the oracle. */
#include "test.h"

#include <string.h>

void *kernel_memcpy(void *to, const void *from, size_t size);
void *kernel_memmove(void *to, const void *from, size_t size);
void *kernel_memset(void *to, int value, size_t size);
int kernel_memcmp(const void *a, const void *b, size_t size);
size_t kernel_strlen(const char *s);
int kernel_strcmp(const char *a, const char *b);
int kernel_strncmp(const char *a, const char *b, size_t size);

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static void copying(void **state)
{
    uint8_t a[64], b[64];
    for (size_t from = 0; from < 40; from += 3)
        for (size_t to = 0; to < 40; to++)
            for (size_t size = 0; size <= 24; size += 4) {
                for (size_t i = 0; i < sizeof a; i++)
                    a[i] = b[i] = (uint8_t)i;
                assert_ptr_equal(kernel_memmove(a + to, a + from, size),
                                 a + to);
                memmove(b + to, b + from, size);
                assert_memory_equal(a, b, sizeof a);
            }
    memset(a, 0, sizeof a);
    assert_ptr_equal(kernel_memcpy(a + 1, b, 30), a + 1);
    assert_memory_equal(a + 1, b, 30);
    assert_int_equal(a[0], 0);
    assert_int_equal(a[31], 0);
    assert_ptr_equal(kernel_memset(a + 2, 0x1cc, 5), a + 2);
    memset(b, 0, sizeof b);
    memset(b, 0xcc, 5);
    assert_memory_equal(a + 2, b, 5);
}

static void comparing(void **state)
{
    static const char *const texts[] = {"",    "a",    "b",     "ab",  "abc",
                                        "abd", "\x80", "a\x80", "abc "};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            const char *a = texts[i], *b = texts[j];
            assert_int_equal(sign(kernel_strcmp(a, b)), sign(strcmp(a, b)));
            for (size_t n = 0; n < 6; n++)
                assert_int_equal(sign(kernel_strncmp(a, b, n)),
                                 sign(strncmp(a, b, n)));
            size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
            assert_int_equal(sign(kernel_memcmp(a, b, n)),
                             sign(memcmp(a, b, n)));
            assert_int_equal(kernel_strlen(a), strlen(a));
        }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(copying),
        cmocka_unit_test(comparing),
    };
    return cmocka_run_group_tests_name("string", tests, NULL, NULL);
}
