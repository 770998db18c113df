/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC, as xAPIC (registers in memory) or x2APIC (MSRs).
 * [SDM 3A "Advanced Programmable Interrupt Controller (APIC)"]
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "boot/options.h"

/* Interrupt command register, low half. */
#define ICR_FIXED   (0u << 8)
#define ICR_NMI     (4u << 8)
#define ICR_INIT    (5u << 8)
#define ICR_STARTUP (6u << 8)
#define ICR_PENDING (1u << 12)
#define ICR_ASSERT  (1u << 14)
#define ICR_LEVEL   (1u << 15)
#define ICR_OTHERS  (3u << 18) /* shorthand: all excluding self */

/* The timer's registers, for src/time/timer.c. */
#define APIC_LVT_TIMER     0x320
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE  0x3e0

/* Choose the mode and enable the BSP's APIC.  `base` is the xAPIC's physical
 * address.  Ends the machine with a message if the mode can't be had. */
void apic_init(enum apic_mode mode, uint64_t base);

/* Enable the local APIC of the CPU that calls, in the chosen mode. */
void apic_enable(void);

bool apic_ready(void);

/* A register of the local APIC of the CPU that calls, by its xAPIC offset. */
uint32_t apic_read(uint32_t offset);
void apic_write(uint32_t offset, uint32_t value);

/* The interrupt in service is over. */
void apic_eoi(void);

bool apic_is_x2apic(void);

/* The APIC ID of the CPU that calls. */
uint32_t apic_id(void);

/* Can this mode address a CPU with this APIC ID? */
bool apic_can_reach(uint32_t id);

/*
 * Send an IPI and wait until it is delivered.  Returns NULL, or what went
 * wrong in words: still pending after APIC_DELIVERY_US, or the error that ESR
 * shows.
 */
const char *apic_send(uint32_t destination, uint32_t icr);

/* Mask the 8259 PICs and move their vectors away from the exceptions. */
void pic_disable(void);
