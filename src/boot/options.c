/* SPDX-License-Identifier: BSD-2-Clause */
#include "boot/options.h"

#include "lib/printf.h"
#include "lib/string.h"
#include "mm/layout.h"
#include "trace/trace.h"

#define WORD_MAX 64

/* One choice of one option: the word sets a 32-bit field of the options. */
struct choice {
    const char *word;
    size_t field;
    uint32_t value;
};

#define CHOICE(word, field, value, help)
#define SINK(word, value, help)
#define VALUE(word, what, help)
#define EXCLUDES(word, other, why)

static const struct choice choices[] = {
#undef CHOICE
#define CHOICE(word, field, value, help)                                       \
    {word, offsetof(struct options, field), value},
#include "boot/choices.h"
#undef CHOICE
#define CHOICE(word, field, value, help)
};

/* trace= also takes a list of these, with commas. */
static const struct choice sinks[] = {
#undef SINK
#define SINK(word, value, help) {word, offsetof(struct options, sinks), value},
#include "boot/choices.h"
#undef SINK
#define SINK(word, value, help)
};

static const struct exclusion {
    const char *word, *other, *why;
} exclusions[] = {
#undef EXCLUDES
#define EXCLUDES(word, other, why) {word, other, why},
#include "boot/choices.h"
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool begins_with(const char *word, const char *start)
{
    return !strncmp(word, start, strlen(start));
}

static bool parse_number(const char *s, uint64_t *to)
{
    unsigned base = 10;
    if (s[0] == '0' && s[1] == 'x') {
        base = 16;
        s += 2;
    }
    uint64_t value = 0;
    if (!*s)
        return false;
    for (; *s; s++) {
        unsigned digit = *s >= '0' && *s <= '9'   ? (unsigned)(*s - '0')
                         : *s >= 'a' && *s <= 'f' ? (unsigned)(*s - 'a') + 10
                                                  : 16;
        if (digit >= base || value >> 56)
            return false;
        value = value * base + digit;
    }
    *to = value;
    return true;
}

static bool parse_sinks(const char *list, uint32_t *to)
{
    *to = 0;
    while (*list) {
        size_t length = 0;
        while (list[length] && list[length] != ',')
            length++;
        bool known = false;
        for (size_t i = 0; i < COUNT(sinks); i++) {
            if (strlen(sinks[i].word) == length &&
                !strncmp(sinks[i].word, list, length)) {
                *to |= sinks[i].value;
                known = true;
            }
        }
        if (!known)
            return false;
        list += length;
        if (*list == ',' && !*++list)
            return false;
    }
    return *to != 0;
}

static bool parse_word(struct options *to, const char *word, char *error,
                       size_t size)
{
    for (size_t i = 0; i < COUNT(choices); i++) {
        if (!strcmp(word, choices[i].word)) {
            memcpy((char *)to + choices[i].field, &choices[i].value,
                   sizeof choices[i].value);
            return true;
        }
    }
    if (begins_with(word, "trace=")) {
        if (parse_sinks(word + 6, &to->sinks))
            return true;
        format_string(error, size,
                      "boot option \"%s\": expected trace=all, trace=none or a "
                      "list of e9, com1, mem with commas",
                      word);
        return false;
    }
    if (begins_with(word, "trampoline=")) {
        uint64_t page;
        if (parse_number(word + 11, &page) && page % PAGE_SIZE == 0 &&
            page >= LOW_MEMORY_START && page < LOW_MEMORY_END) {
            to->trampoline = page;
            return true;
        }
        format_string(error, size,
                      "boot option \"%s\": expected the address of a page from "
                      "%#x to %#x, such as trampoline=0x9000: a SIPI can start "
                      "an AP nowhere else",
                      word, LOW_MEMORY_START, LOW_MEMORY_END - PAGE_SIZE);
        return false;
    }
    if (begins_with(word, "maxcpus=")) {
        if (parse_number(word + 8, &to->maxcpus) && to->maxcpus)
            return true;
        format_string(error, size,
                      "boot option \"%s\": expected a number of CPUs from 1 "
                      "on, such as maxcpus=4: the BSP is one of them",
                      word);
        return false;
    }
    format_string(error, size,
                  "unknown boot option \"%s\": expected smp=, apic=, "
                  "maxcpus=, trampoline=, trace=, selftest or workload "
                  "(docs/boot-options.md)",
                  word);
    return false;
}

/* The next word of the command line, cut to WORD_MAX - 1 characters; false if
 * there is none. */
static bool next_word(const char **at, char word[WORD_MAX])
{
    size_t length = 0;
    while (**at == ' ')
        ++*at;
    for (; **at && **at != ' '; ++*at)
        if (length < WORD_MAX - 1)
            word[length++] = **at;
    word[length] = '\0';
    return length;
}

/* Why both can't stand on one command line; NULL if they can. */
static const char *exclude_each_other(const char *a, const char *b)
{
    size_t name = 0;
    while (a[name] && a[name] != '=')
        name++;
    if (!strncmp(a, b, name + 1) && strcmp(a, b))
        return "leave one of them out";
    for (size_t i = 0; i < COUNT(exclusions); i++) {
        const struct exclusion *e = &exclusions[i];
        if ((begins_with(a, e->word) && begins_with(b, e->other)) ||
            (begins_with(b, e->word) && begins_with(a, e->other)))
            return e->why;
    }
    return NULL;
}

static bool words_agree(const char *cmdline, char *error, size_t size)
{
    char word[WORD_MAX], other[WORD_MAX];
    while (next_word(&cmdline, word))
        for (const char *rest = cmdline; next_word(&rest, other);) {
            const char *why = exclude_each_other(word, other);
            if (why) {
                format_string(error, size,
                              "boot options \"%s\" and \"%s\" contradict each "
                              "other: %s",
                              word, other, why);
                return false;
            }
        }
    return true;
}

bool options_parse(struct options *to, const char *cmdline, char *error,
                   size_t error_size)
{
    char word[WORD_MAX];
    *to = (struct options){.sinks = TRACE_SINKS_ALL};
    for (const char *at = cmdline; next_word(&at, word);) {
        if (strlen(word) == WORD_MAX - 1) {
            format_string(error, error_size,
                          "boot option \"%s...\": expected at most %d "
                          "characters",
                          word, WORD_MAX - 2);
            return false;
        }
        if (!parse_word(to, word, error, error_size))
            return false;
    }
    return words_agree(cmdline, error, error_size);
}
