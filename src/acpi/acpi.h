/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding the MADT in the machine's memory. */
#pragma once

#include "acpi/madt.h"
#include "boot/bootinfo.h"

/* The machine's MADT.  Ends the machine with a message where there is no
 * RSDP, no MADT, or a damaged one. */
const struct madt *acpi_read_madt(const struct bootinfo *info);
