/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frames: one line of input "APIC STAGE SEQUENCE [ARGUMENT]" (hex) is one
 * frame of output, as the kernel writes it.  test_host.py decodes them.
 */
#include <stdlib.h>

#include "records.h"

int main(void)
{
    char line[80];
    while (fgets(line, sizeof line, stdin)) {
        unsigned apic_id, stage, sequence, argument = 0;
        int fields =
            sscanf(line, "%x %x %x %x", &apic_id, &stage, &sequence, &argument);
        if (fields < 3)
            return EXIT_FAILURE;
        struct trace_ap_record record;
        identify(&record, apic_id, 0);
        trace_format(&record.header, sequence, (enum stage)stage, fields > 3,
                     argument);
        fwrite(record.header.frame, 1, record.header.frame_len, stdout);
    }
    return EXIT_SUCCESS;
}
