/* SPDX-License-Identifier: 0BSD */
/*
 * lamppost drop-in kit, C: stage frames from freestanding C11 (GCC, Clang) in
 * 64-, 32- or 16-bit code.  Copy this one file.
 *
 *   LAMP(0xa0);                 light lamp a0
 *   LAMP_ARG(0xc3, apic_id);    with an argument of 32 bits
 *
 *   LAMPPOST_NAME(0x8a, MY_STAGE, "long64", "what became true",
 *                 "what comes next")
 *                               outside of functions: a line of the stage
 *                               table in the ELF file
 *
 * A frame goes to port 0xE9.  What may be defined before the #include:
 *
 *   LAMPPOST_OFF     no code at all
 *   LAMPPOST_COM1    the frame goes to COM1, too (set up elsewhere)
 *   LAMPPOST_STATE   address of LAMPPOST_STATE_SIZE bytes: zeros at first,
 *                    4-aligned, writable, the same for all CPUs and all
 *                    files that use the kit, in assembler as in C.  They
 *                    give a lock and counts.
 */
#ifndef LAMPPOST_H
#define LAMPPOST_H

#include <stdint.h>

#define LAMPPOST_STATE_SIZE (4 + 256) /* a lock, a count for each ID < 100h */

/* How often to look at a lock that does not move before it is stolen. */
#ifndef LAMPPOST_SPINS
#define LAMPPOST_SPINS 1048576
#endif

#ifdef LAMPPOST_OFF
#define LAMP(code)            ((void)0)
#define LAMP_ARG(code, value) ((void)(value))
#else
#define LAMP(code) lamppost_light((uint8_t)(code), 0, 0)
#define LAMP_ARG(code, value)                                                  \
    lamppost_light((uint8_t)(code), 1, (uint32_t)(value))
#endif

/* Say what a code of one's own means, or one of lamppost's that is used.
 * `code` is a number, not an enumerator; mode is "real16", "prot16",
 * "prot32", "compat32" or "long64"; no quotation marks in the sentences. */
#define LAMPPOST_TEXT_(code) #code
#define LAMPPOST_TEXT(code)  LAMPPOST_TEXT_(code)
#define LAMPPOST_DIGIT(n)    ".byte 48 + (" n ") + (((" n ") + 6) >> 4) * 39\n\t"
#define LAMPPOST_NAME(code, name, mode, became, needs)                         \
    __asm__(                                                                   \
        ".pushsection .lamppost.stages, \"\", @progbits\n\t" LAMPPOST_DIGIT(   \
            "(" LAMPPOST_TEXT(code) ") >> 4")                                  \
            LAMPPOST_DIGIT("(" LAMPPOST_TEXT(                                  \
                code) ") & 15") ".ascii \"\\t" #name "\\t" mode "\\t" became   \
                                "\\t" needs "\\n\"\n"                          \
                                "\t.popsection");

#ifndef LAMPPOST_OFF

static inline void lamppost_cpuid(uint32_t leaf, uint32_t *a, uint32_t *b,
                                  uint32_t *d)
{
    uint32_t c = 0;
    __asm__ __volatile__("cpuid"
                         : "=a"(*a), "=b"(*b), "+c"(c), "=d"(*d)
                         : "0"(leaf));
}

/* The APIC ID, of 32 bits where CPUID has it [SDM 3A "APIC ID"]. */
static inline uint32_t lamppost_apic_id(void)
{
    uint32_t a, b, d;
    lamppost_cpuid(0, &a, &b, &d);
    if (a >= 11) {
        lamppost_cpuid(11, &a, &b, &d);
        if (b)
            return d;
    }
    lamppost_cpuid(1, &a, &b, &d);
    return b >> 24;
}

static inline void lamppost_out(uint16_t port, uint8_t value)
{
    __asm__ __volatile__("out {%0, %1|%1, %0}" : : "a"(value), "Nd"(port));
}

/* A frame on its way. */
struct lamppost_frame {
    uint32_t polls; /* of COM1, for the whole frame: a UART that is never
                     * ready is soon left alone */
    uint8_t sum;
};

static inline void lamppost_put(struct lamppost_frame *frame, uint8_t c)
{
    frame->sum = (uint8_t)((uint8_t)(frame->sum << 1 | frame->sum >> 7) ^ c);
    lamppost_out(0xe9, c);
#ifdef LAMPPOST_COM1
    for (;;) {
        uint8_t status;
        __asm__ __volatile__("in {%1, %0|%0, %1}"
                             : "=a"(status)
                             : "Nd"((uint16_t)0x3fd));
        if (status & 0x20)
            break;
        if (!frame->polls)
            return;
        frame->polls--;
    }
    lamppost_out(0x3f8, c);
#endif
}

/* `digits` hexadecimal digits, or as many as the value needs if 0. */
static inline void lamppost_put_hex(struct lamppost_frame *frame,
                                    uint32_t value, unsigned digits)
{
    if (!digits)
        for (digits = 1; digits < 8 && value >> 4 * digits; digits++)
            ;
    while (digits--) {
        uint8_t nibble = (uint8_t)(value >> 4 * digits & 15);
        lamppost_put(frame, (uint8_t)(nibble + (nibble < 10 ? '0' : 'a' - 10)));
    }
}

#ifdef LAMPPOST_STATE
/* The state's first word: even when free, odd when held, moving with each
 * owner. */
static inline volatile uint32_t *lamppost_lock(void)
{
    return (volatile uint32_t *)(LAMPPOST_STATE);
}

static inline int lamppost_move(uint32_t from, uint32_t to)
{
    uint32_t seen = from;
    __asm__ __volatile__("lock cmpxchg {%2, %1|%1, %2}"
                         : "+a"(seen), "+m"(*lamppost_lock())
                         : "r"(to)
                         : "memory", "cc");
    return seen == from;
}

/* Take the lock; the word that it now holds. */
static inline uint32_t lamppost_acquire(struct lamppost_frame *frame)
{
    uint32_t last = 0, spins = LAMPPOST_SPINS;
    for (;;) {
        uint32_t word = *lamppost_lock();
        if (!(word & 1)) {
            if (lamppost_move(word, word + 1))
                return word + 1;
        } else if (word != last) { /* another owner: its deadline starts now */
            last = word;
            spins = LAMPPOST_SPINS;
        } else if (spins) {
            spins--;
            __asm__ __volatile__("pause");
        } else if (lamppost_move(word, word + 2)) { /* its owner stopped */
            lamppost_put(frame, '\n'); /* end the line that was torn */
            return word + 2;
        }
    }
}
#endif

__attribute__((noinline, unused)) static void
lamppost_light(uint8_t stage, int has_argument, uint32_t argument)
{
    struct lamppost_frame frame;
    uint32_t id = lamppost_apic_id();
    uint8_t count = '-'; /* nobody counts */
    frame.polls = 0xffff;
#ifdef LAMPPOST_STATE
    uint32_t mine = lamppost_acquire(&frame);
    if (id < 0x100) {
        volatile uint8_t *counts = (volatile uint8_t *)(lamppost_lock() + 1);
        count = counts[id] & 15;
        counts[id] = (uint8_t)(count + 1);
        count = (uint8_t)(count + (count < 10 ? '0' : 'a' - 10));
    }
#endif
    lamppost_put(&frame, '@');
    frame.sum = 0;
    lamppost_put_hex(&frame, id, id < 0x100 ? 2 : 8);
    lamppost_put(&frame, ':');
    lamppost_put_hex(&frame, stage, 2);
    if (has_argument) {
        lamppost_put(&frame, '=');
        lamppost_put_hex(&frame, argument, 0);
    }
    lamppost_put(&frame, '.');
    lamppost_put(&frame, count);
    uint8_t sum = frame.sum;
    lamppost_put(&frame, '*');
    lamppost_put_hex(&frame, sum, 2);
    lamppost_put(&frame, '\n');
#ifdef LAMPPOST_STATE
    lamppost_move(mine, mine + 1); /* unless it was stolen */
#endif
}

#endif
#endif
