/* SPDX-License-Identifier: BSD-2-Clause */
#include "lib/printf.h"

#include <stdbool.h>
#include <stdint.h>

#include "lib/string.h"

struct output {
    char *to;
    size_t size;
    size_t length; /* of the whole text, written or not */
};

struct conversion {
    bool left, zero, plus, space, alternate;
    int width;
    int precision; /* -1: none */
    int length;    /* bytes of the argument */
};

static void put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->to[out->length] = c;
    out->length++;
}

static void pad(struct output *out, char c, int count)
{
    while (count-- > 0)
        put(out, c);
}

/* Prefix (a sign or 0x), zeros, then the digits, within the width. */
static void put_field(struct output *out, const struct conversion *conv,
                      const char *prefix, int zeros, const char *digits,
                      int count)
{
    int blank = conv->width - (int)strlen(prefix) - zeros - count;
    if (!conv->left)
        pad(out, ' ', blank);
    while (*prefix)
        put(out, *prefix++);
    pad(out, '0', zeros);
    for (int i = 0; i < count; i++)
        put(out, digits[i]);
    if (conv->left)
        pad(out, ' ', blank);
}

static void put_number(struct output *out, const struct conversion *conv,
                       uint64_t value, unsigned base, bool upper,
                       const char *prefix)
{
    const char *alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char digits[24];
    int at = sizeof digits;
    bool zero_value = value == 0;
    while (value) {
        digits[--at] = alphabet[value % base];
        value /= base;
    }
    if (zero_value && conv->precision != 0)
        digits[--at] = '0';
    int count = (int)sizeof digits - at;
    if (base == 8 && conv->alternate && (count == 0 || digits[at] != '0'))
        digits[--at] = '0', count++;
    if (zero_value && base == 16)
        prefix = "";

    int zeros = conv->precision - count;
    if (conv->precision < 0 && conv->zero && !conv->left)
        zeros = conv->width - (int)strlen(prefix) - count;
    if (zeros < 0)
        zeros = 0;
    put_field(out, conv, prefix, zeros, digits + at, count);
}

static void put_string(struct output *out, const struct conversion *conv,
                       const char *s)
{
    if (!s)
        s = "(null)";
    int count = 0;
    while ((conv->precision < 0 || count < conv->precision) && s[count])
        count++;
    put_field(out, conv, "", 0, s, count);
}

static int64_t sign_extend(uint64_t value, int bytes)
{
    int shift = 64 - 8 * bytes;
    return (int64_t)(value << shift) >> shift;
}

static uint64_t zero_extend(uint64_t value, int bytes)
{
    int shift = 64 - 8 * bytes;
    return value << shift >> shift;
}

static const char *parse_flags(const char *f, struct conversion *conv)
{
    for (;; f++) {
        switch (*f) {
        case '-': conv->left = true; break;
        case '0': conv->zero = true; break;
        case '+': conv->plus = true; break;
        case ' ': conv->space = true; break;
        case '#': conv->alternate = true; break;
        default: return f;
        }
    }
}

static const char *parse_length(const char *f, struct conversion *conv)
{
    conv->length = sizeof(int);
    if (*f == 'h') {
        conv->length = f[1] == 'h' ? 1 : 2;
        return f + (f[1] == 'h' ? 2 : 1);
    }
    if (*f == 'l' || *f == 'z') {
        conv->length = 8;
        return f + (f[0] == 'l' && f[1] == 'l' ? 2 : 1);
    }
    return f;
}

static unsigned base_of(char conversion)
{
    switch (conversion) {
    case 'u': return 10;
    case 'o': return 8;
    default: return 16;
    }
}

/* A number in the format, or *: taken from the arguments. */
#define PARSE_NUMBER(f, into, arguments)                                       \
    do {                                                                       \
        if (*(f) == '*') {                                                     \
            (into) = va_arg(arguments, int);                                   \
            (f)++;                                                             \
        } else {                                                               \
            (into) = 0;                                                        \
            while (*(f) >= '0' && *(f) <= '9')                                 \
                (into) = (into)*10 + (*(f)++ - '0');                           \
        }                                                                      \
    } while (0)

int format_text(char *to, size_t size, const char *format, va_list arguments)
{
    struct output out = {to, size, 0};
    for (const char *f = format; *f; f++) {
        if (*f != '%') {
            put(&out, *f);
            continue;
        }
        const char *start = f++;
        struct conversion conv = {.precision = -1};
        f = parse_flags(f, &conv);
        PARSE_NUMBER(f, conv.width, arguments);
        if (conv.width < 0) {
            conv.left = true;
            conv.width = -conv.width;
        }
        if (*f == '.') {
            f++;
            PARSE_NUMBER(f, conv.precision, arguments);
        }
        f = parse_length(f, &conv);

        const char *prefix = "";
        uint64_t value;
        switch (*f) {
        case 'd':
        case 'i':
            value = conv.length == 8 ? va_arg(arguments, uint64_t)
                                     : va_arg(arguments, unsigned);
            if (sign_extend(value, conv.length) < 0) {
                value = -(uint64_t)sign_extend(value, conv.length);
                prefix = "-";
            } else {
                value = zero_extend(value, conv.length);
                prefix = conv.plus ? "+" : conv.space ? " " : "";
            }
            put_number(&out, &conv, value, 10, false, prefix);
            break;
        case 'u':
        case 'x':
        case 'X':
        case 'o':
            value = conv.length == 8 ? va_arg(arguments, uint64_t)
                                     : va_arg(arguments, unsigned);
            if (conv.alternate && *f == 'x')
                prefix = "0x";
            else if (conv.alternate && *f == 'X')
                prefix = "0X";
            put_number(&out, &conv, zero_extend(value, conv.length),
                       base_of(*f), *f == 'X', prefix);
            break;
        case 'p':
            put_number(&out, &conv, (uintptr_t)va_arg(arguments, void *), 16,
                       false, "0x");
            break;
        case 'c': {
            char c = (char)va_arg(arguments, int);
            put_field(&out, &conv, "", 0, &c, 1);
            break;
        }
        case 's':
            put_string(&out, &conv, va_arg(arguments, const char *));
            break;
        case '%': put(&out, '%'); break;
        default: /* copy what is not understood */
            while (start < f)
                put(&out, *start++);
            if (!*f)
                f--;
            else
                put(&out, *f);
        }
    }
    if (size)
        to[out.length < size ? out.length : size - 1] = '\0';
    return (int)out.length;
}

int format_string(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = format_text(to, size, format, arguments);
    va_end(arguments);
    return length;
}
