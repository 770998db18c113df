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

static const struct choice choices[] = {
#define CHOICE(word, field, value, help)                                       \
    {word, offsetof(struct options, field), value},
#define SINK(word, value, help)
#define VALUE(word, what, help)
#include "boot/choices.h"
#undef CHOICE
#undef SINK
};

/* trace= also takes a list of these, with commas. */
static const struct choice sinks[] = {
#define CHOICE(word, field, value, help)
#define SINK(word, value, help) {word, offsetof(struct options, sinks), value},
#include "boot/choices.h"
#undef CHOICE
#undef SINK
#undef VALUE
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

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
    if (!strncmp(word, "trace=", 6)) {
        if (parse_sinks(word + 6, &to->sinks))
            return true;
        format_string(error, size,
                      "boot option \"%s\": expected trace=all, trace=none or a "
                      "list of e9, com1, mem with commas",
                      word);
        return false;
    }
    if (!strncmp(word, "trampoline=", 11)) {
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
    if (!strncmp(word, "maxcpus=", 8)) {
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

bool options_parse(struct options *to, const char *cmdline, char *error,
                   size_t error_size)
{
    *to = (struct options){.sinks = TRACE_SINKS_ALL};
    while (*cmdline) {
        char word[WORD_MAX];
        size_t length = 0;
        while (*cmdline && *cmdline != ' ') {
            if (length < sizeof word - 1)
                word[length++] = *cmdline;
            cmdline++;
        }
        word[length] = '\0';
        if (length == sizeof word - 1) {
            format_string(error, error_size,
                          "boot option \"%s...\": expected at most %d "
                          "characters",
                          word, WORD_MAX - 2);
            return false;
        }
        if (length && !parse_word(to, word, error, error_size))
            return false;
        while (*cmdline == ' ')
            cmdline++;
    }
    return true;
}
