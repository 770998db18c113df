/* SPDX-License-Identifier: BSD-2-Clause */
#include "apic/apic.h"

#include "cpu/cpu.h"
#include "cpu/vectors.h"
#include "lib/exit.h"
#include "mm/paging.h"
#include "time/tsc.h"

/* Register offsets; an x2APIC register's MSR is 0x800 + offset / 16. */
#define APIC_ID       0x020
#define APIC_EOI      0x0b0
#define APIC_SVR      0x0f0
#define APIC_ESR      0x280
#define APIC_ICR_LOW  0x300
#define APIC_ICR_HIGH 0x310
#define X2APIC_MSR    0x800

#define SVR_ENABLE 0x100u

/* A correct delivery takes bus cycles; a pending one after this is lost. */
#define APIC_DELIVERY_US 1000

static volatile uint32_t *registers; /* NULL in x2APIC mode */
static bool x2apic;
static bool ready;

uint32_t apic_read(uint32_t offset)
{
    if (x2apic)
        return (uint32_t)rdmsr(X2APIC_MSR + offset / 16);
    return registers[offset / 4];
}

void apic_write(uint32_t offset, uint32_t value)
{
    if (x2apic)
        wrmsr(X2APIC_MSR + offset / 16, value);
    else
        registers[offset / 4] = value;
}

void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

bool apic_ready(void)
{
    return ready;
}

bool apic_is_x2apic(void)
{
    return x2apic;
}

uint32_t apic_id(void)
{
    uint32_t id = apic_read(APIC_ID);
    return x2apic ? id : id >> 24;
}

bool apic_can_reach(uint32_t id)
{
    return x2apic || id < 0xff;
}

void apic_init(enum apic_mode mode, uint64_t base)
{
    bool has_x2apic = cpuid(CPUID_FEATURES, 0).ecx & CPUID_1_ECX_X2APIC;
    if (mode == APIC_X2APIC && !has_x2apic)
        boot_error(EXIT_NO_APIC,
                   "apic=x2apic: this CPU has no x2APIC (CPUID 1 ECX bit 21 is "
                   "0); leave the option out, or choose a CPU model that has "
                   "it (QEMU 7.2 emulates none without KVM)");
    /* Firmware may have left the x2APIC on; xAPIC registers then read as
     * nothing, and the way back needs the APIC off in between. */
    bool left_on = rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC;
    x2apic = mode == APIC_X2APIC || (mode == APIC_AUTO && has_x2apic);
    if (left_on && !x2apic)
        wrmsr(MSR_APIC_BASE,
              rdmsr(MSR_APIC_BASE) &
                  ~(uint64_t)(APIC_BASE_X2APIC | APIC_BASE_ENABLE));
    if (!x2apic)
        registers = paging_map_device(base, PAGE_SIZE);
    apic_enable();
    ready = true;
}

void apic_enable(void)
{
    uint64_t enable = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    wrmsr(MSR_APIC_BASE, enable);
    if (x2apic) /* x2APIC only from an enabled xAPIC */
        wrmsr(MSR_APIC_BASE, enable | APIC_BASE_X2APIC);
    apic_write(APIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
}

/* [SDM 3A "Error Handling"]: ESR is read after it was written. */
static const char *esr_text(uint32_t esr)
{
    return esr & 0x04   ? "the APIC could not send it (send accept error)"
           : esr & 0x20 ? "its vector is not allowed (send illegal vector)"
           : esr & 0x80 ? "an APIC register was addressed that does not exist"
                        : "the APIC reports an error";
}

static const char *send(uint32_t destination, uint32_t icr)
{
    apic_write(APIC_ESR, 0);
    if (x2apic) {
        /* A WRMSR to the x2APIC may overtake earlier stores, which the
         * destination must see [SDM 3A "MSR Access in x2APIC Mode"]. */
        __asm__ volatile("mfence; lfence" : : : "memory");
        wrmsr(X2APIC_MSR + APIC_ICR_LOW / 16,
              (uint64_t)destination << 32 | icr);
    } else {
        apic_write(APIC_ICR_HIGH, destination << 24);
        apic_write(APIC_ICR_LOW, icr); /* this write sends it */
        uint64_t deadline = deadline_in(APIC_DELIVERY_US);
        while (apic_read(APIC_ICR_LOW) & ICR_PENDING) {
            if (deadline_passed(deadline))
                return "it was not delivered in time (ICR bit 12 stays 1)";
            pause();
        }
    }
    apic_write(APIC_ESR, 0);
    uint32_t esr = apic_read(APIC_ESR);
    return esr ? esr_text(esr) : NULL;
}

const char *apic_send(uint32_t destination, uint32_t icr)
{
    /* A handler that sends an IPI must not come between the two halves. */
    uint64_t flags = interrupts_save();
    const char *problem = send(destination, icr);
    interrupts_restore(flags);
    return problem;
}

#define PIC1_COMMAND 0x20
#define PIC1_DATA    0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA    0xa1
#define PIC_ICW1     0x11 /* edge triggered, cascaded, ICW4 follows */
#define PIC_ICW4     0x01 /* 8086 mode */
#define PIC1_VECTOR  0xe0
#define PIC2_VECTOR  0xe8

void pic_disable(void)
{
    outb(PIC1_COMMAND, PIC_ICW1);
    outb(PIC2_COMMAND, PIC_ICW1);
    outb(PIC1_DATA, PIC1_VECTOR);
    outb(PIC2_DATA, PIC2_VECTOR);
    outb(PIC1_DATA, 4); /* the second PIC is on line 2 */
    outb(PIC2_DATA, 2);
    outb(PIC1_DATA, PIC_ICW4);
    outb(PIC2_DATA, PIC_ICW4);
    outb(PIC1_DATA, 0xff);
    outb(PIC2_DATA, 0xff);
}
