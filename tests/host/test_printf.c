/* SPDX-License-Identifier: BSD-2-Clause */
/* glibc's snprintf is the oracle. */
#include "test.h"

#include <limits.h>
#include <string.h>

#include "lib/printf.h"

/* The formats are made at run time. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-truncation"

#define ROOM 400

static int (*volatile ours)(char *, size_t, const char *, ...) = format_string;
static int (*volatile glibc)(char *, size_t, const char *, ...) = snprintf;

/* Both write the same text, return the same length and touch the same bytes,
 * with room and without. */
#define SAME(format, ...)                                                      \
    do {                                                                       \
        char a[ROOM], b[ROOM];                                                 \
        size_t sizes[] = {ROOM, 0, 1, 2, 5, below(40)};                        \
        for (size_t s_ = 0; s_ < 6; s_++) {                                    \
            memset(a, 'X', sizeof a);                                          \
            memset(b, 'X', sizeof b);                                          \
            int la = ours(a, sizes[s_], format, __VA_ARGS__);                  \
            int lb = glibc(b, sizes[s_], format, __VA_ARGS__);                 \
            if (la != lb || memcmp(a, b, sizeof a))                            \
                fail_msg("\"%s\" in %zu bytes: ours %d \"%.60s\", glibc %d "   \
                         "\"%.60s\"",                                          \
                         format, sizes[s_], la, a, lb, b);                     \
        }                                                                      \
    } while (0)

/* Each combination of flags that conversion `c` has a meaning for. */
static void for_each_flags(const char *allowed,
                           void (*visit)(const char *flags, char c), char c)
{
    size_t count = strlen(allowed);
    for (unsigned mask = 0; mask < 1u << count; mask++) {
        char flags[8] = "";
        for (size_t i = 0, at = 0; i < count; i++)
            if (mask & 1u << i) {
                flags[at++] = allowed[i];
                flags[at] = '\0';
            }
        visit(flags, c);
    }
}

static const char *const widths[] = {"", "1", "2", "8", "13", "40"};
static const char *const precisions[] = {"", ".", ".0", ".1", ".7", ".25"};
#define EACH(array, name)                                                      \
    for (size_t name##_ = 0; name##_ < sizeof(array) / sizeof *(array) &&      \
                             ((name = (array)[name##_]), true);                \
         name##_++)

static const uint64_t values[] = {0,
                                  1,
                                  7,
                                  8,
                                  9,
                                  10,
                                  255,
                                  256,
                                  INT_MAX,
                                  UINT_MAX,
                                  0x80000000,
                                  0x8000,
                                  0x7fff,
                                  0xff80,
                                  INT64_MAX,
                                  UINT64_MAX,
                                  1ull << 63,
                                  0x123456789abcdef0,
                                  (uint64_t)-1234567};

static void numbers(const char *flags, char c)
{
    const char *width, *precision;
    EACH(widths, width) EACH(precisions, precision)
    {
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            char f[64];
            sprintf(f, "<%%%s%s%shh%c>", flags, width, precision, c);
            SAME(f, (int)values[i]);
            sprintf(f, "%%%s%s%sh%c", flags, width, precision, c);
            SAME(f, (int)values[i]);
            sprintf(f, "a%%%s%s%s%c", flags, width, precision, c);
            SAME(f, (int)values[i]);
            sprintf(f, "%%%s%s%sl%c@", flags, width, precision, c);
            SAME(f, (long)values[i]);
            sprintf(f, "%%%s%s%sll%c", flags, width, precision, c);
            SAME(f, (long long)values[i]);
            sprintf(f, "%%%s%s%sz%c", flags, width, precision, c);
            SAME(f, (size_t)values[i]);
        }
    }
}

static void signed_numbers(void **state)
{
    for_each_flags("-0+ ", numbers, 'd');
    for_each_flags("-0+ ", numbers, 'i');
}

static void unsigned_numbers(void **state)
{
    for_each_flags("-0", numbers, 'u');
    for_each_flags("-0#", numbers, 'x');
    for_each_flags("-0#", numbers, 'X');
    for_each_flags("-0#", numbers, 'o');
}

static void strings(const char *flags, char c)
{
    static const char *const texts[] = {"", "a", "hello", "%d %s",
                                        "0123456789012345678901234567890"};
    const char *width, *precision, *text;
    EACH(widths, width) EACH(precisions, precision) EACH(texts, text)
    {
        char f[64];
        sprintf(f, "[%%%s%s%s%c]", flags, width, precision, c);
        SAME(f, text);
    }
}

static void texts(void **state)
{
    for_each_flags("-", strings, 's');
    SAME("%s", (const char *)NULL);
    SAME("%s and %s, %%, %d%%", "one", "two", 50);
    SAME("%c%c%-5c|%5c|", 'a', 'Z', 'x', 'y');
    SAME("%s", "");
}

static void a_text_needs_no_null_within_its_precision(void **state)
{
    char *bytes = malloc(3); /* ASan guards the end */
    memcpy(bytes, "abc", 3);
    char to[8];
    assert_int_equal(format_string(to, sizeof to, "%.3s", bytes), 3);
    assert_string_equal(to, "abc");
    free(bytes);
}

static void numbers_from_the_arguments(void **state)
{
    for (int width = -12; width <= 12; width++)
        for (int precision = -3; precision <= 12; precision++) {
            SAME("%*.*d", width, precision, -42);
            SAME("%0*.*x", width, precision, 0xbeef);
            SAME("%-*.*s", width, precision, "lamp");
        }
}

static void pointers(void **state)
{
    SAME("%p", (void *)0x8000);
    SAME("%20p|%-20p|", (void *)-1, (void *)0xffffffff80000000);
}

static void mixtures_by_chance(void **state)
{
    static const char conversions[] = "diuxXo";
    for (int round = 0; round < 50000; round++) {
        char f[80];
        int at = 0;
        uint64_t v[3];
        for (int i = 0; i < 3; i++) {
            v[i] = ((uint64_t)chance() << 32 | chance()) >> below(64);
            at += sprintf(f + at, "%s%%%s%.0u.%ul%c", i ? " " : "",
                          below(2) ? "-" : "0", 1 + below(30), below(25),
                          conversions[below(6)]);
        }
        SAME(f, v[0], v[1], v[2]);
    }
}

/* Where ours differs on purpose: as printf.h says. */
static void an_unknown_conversion_is_copied(void **state)
{
    char to[40];
    ours(to, sizeof to, "%y %5.2Q %");
    assert_string_equal(to, "%y %5.2Q %");
    ours(to, sizeof to, "%");
    assert_string_equal(to, "%");
    ours(to, sizeof to, "%-08l");
    assert_string_equal(to, "%-08l");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_numbers),
        cmocka_unit_test(unsigned_numbers),
        cmocka_unit_test(texts),
        cmocka_unit_test(a_text_needs_no_null_within_its_precision),
        cmocka_unit_test(numbers_from_the_arguments),
        cmocka_unit_test(pointers),
        cmocka_unit_test(mixtures_by_chance),
        cmocka_unit_test(an_unknown_conversion_is_copied),
    };
    return cmocka_run_group_tests_name("printf", tests, NULL, NULL);
}
