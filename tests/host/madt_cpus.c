/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * madt_cpus FILE: what the kernel reads in a MADT, one line a CPU:
 * TYPE APIC_ID UID ENABLED ONLINE_CAPABLE.  test_host.py compares it with
 * what iasl reads.
 */
#include <stdio.h>
#include <stdlib.h>

#include "acpi/madt.h"

int main(int argc, char **argv)
{
    static struct madt madt;
    static uint8_t bytes[1 << 20];
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: madt_cpus FILE\n");
        return EXIT_FAILURE;
    }
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    enum madt_error error = madt_parse(&madt, bytes, size);
    if (error != MADT_OK) {
        fprintf(stderr, "%s\n", madt_error_text(error));
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < madt.count; i++)
        printf("%d %u %u %d %d\n", madt.cpus[i].x2apic ? 9 : 0,
               madt.cpus[i].apic_id, madt.cpus[i].uid, madt.cpus[i].enabled,
               madt.cpus[i].online_capable);
    return EXIT_SUCCESS;
}
