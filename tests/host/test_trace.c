/* SPDX-License-Identifier: BSD-2-Clause */
/* The frame writer in C, with ports whose bytes can be read. */
#include "test.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "ports.h"
#include "records.h"

/* unistd.h has a pause() of its own. */
long syscall(long number, ...);

#define WRITERS 4
#define FRAMES  60

static struct trace_ap_record records[WRITERS];

/* Called by the tests themselves: cmocka sets its own SIGSEGV handler before
 * each. */
static void begin(void)
{
    ports_begin();
    *trace_control = (struct trace_control){
        .magic = TRACE_MAGIC,
        .sinks = TRACE_SINKS_ALL,
        .steal_after = 0xffffffff,
    };
    for (uint32_t i = 0; i < WRITERS; i++)
        identify(&records[i], 0x10 * i + 3, i);
}

/* Take the next frame off a log; check grammar and sum by hand. */
static bool next_frame(const struct port_log *log, size_t *at, unsigned *apic,
                       unsigned *stage, unsigned *sequence)
{
    if (*at >= log->size)
        return false;
    unsigned sum;
    int length = 0;
    char line[64] = "";
    const char *start = log->bytes + *at;
    const char *end = memchr(start, '\n', log->size - *at);
    assert_non_null(end);
    assert_true(end - start < (int)sizeof line);
    memcpy(line, start, (size_t)(end - start));
    if (sscanf(line, "@%x:%2x.%1x*%2x%n", apic, stage, sequence, &sum,
               &length) != 4 ||
        line[length])
        fail_msg("torn: \"%s\"", line);
    assert_int_equal(sum_of(line + 1, (size_t)length - 4), sum);
    *at += (size_t)(end - start) + 1;
    return true;
}

static void writes_a_frame_to_each_sink(void **state)
{
    begin();
    trace_stage(&records[0].header, STAGE_AP_C, true, 0xabc);
    const char *expected = "@03:a0=abc.0*";
    char whole[32];
    snprintf(whole, sizeof whole, "%s%02x\n", expected,
             sum_of(expected + 1, strlen(expected) - 2));
    assert_int_equal(port_e9.size, strlen(whole));
    assert_memory_equal(port_e9.bytes, whole, strlen(whole));
    assert_int_equal(port_com1.size, strlen(whole));
    assert_memory_equal(port_com1.bytes, whole, strlen(whole));
    assert_int_equal(records[0].header.count, 1);
    assert_int_equal(records[0].entries[0].stage, STAGE_AP_C);
    assert_int_equal(records[0].entries[0].argument, 0xabc);
    assert_int_equal(records[0].entries[0].flags, TRACE_HAS_ARGUMENT);
    assert_int_equal(records[0].entries[0].index, 0);
    assert_int_equal(trace_control->lock & 0xffff, 0);
    assert_int_equal(trace_control->lock >> 16, 1);
}

static void obeys_the_choice_of_sinks(void **state)
{
    begin();
    trace_choose_sinks(TRACE_SINK_E9);
    trace_stage(&records[0].header, STAGE_AP_C, false, 0);
    assert_true(port_e9.size && !port_com1.size);
    assert_int_equal(records[0].entries[0].stage, 0);
    size_t size = port_e9.size;
    trace_choose_sinks(TRACE_SINK_COM1);
    trace_stage(&records[0].header, STAGE_AP_C, false, 0);
    assert_true(port_e9.size == size && port_com1.size == size);
    trace_choose_sinks(TRACE_SINK_MEMORY);
    trace_stage(&records[0].header, STAGE_AP_GS, false, 0);
    assert_true(port_e9.size == size && port_com1.size == size);
    assert_int_equal(records[0].entries[2].stage, STAGE_AP_GS);
    trace_choose_sinks(0);
    trace_stage(&records[0].header, STAGE_AP_GS, false, 0);
    assert_int_equal(records[0].header.count, 3);
    assert_int_equal(port_e9.size, size);
}

static void nobody_without_a_record_is_traced(void **state)
{
    begin();
    records[0].header.apic_id = TRACE_UNCLAIMED;
    trace_stage(&records[0].header, STAGE_AP_C, false, 0);
    trace_stage(NULL, STAGE_AP_C, false, 0);
    assert_int_equal(port_e9.size, 0);
    assert_int_equal(records[0].header.count, 0);
}

static void the_history_keeps_the_newest(void **state)
{
    begin();
    trace_choose_sinks(TRACE_SINK_MEMORY);
    for (unsigned i = 0; i < TRACE_AP_ENTRIES + 5; i++)
        trace_stage(&records[0].header, STAGE_BSP_AP_SEEN, true, i);
    assert_int_equal(records[0].header.count, TRACE_AP_ENTRIES + 5);
    for (unsigned i = 5; i < TRACE_AP_ENTRIES + 5; i++) {
        const struct trace_entry *e = &records[0].entries[i % TRACE_AP_ENTRIES];
        assert_int_equal(e->argument, i);
        assert_int_equal(e->index, i);
    }
    /* Nothing beyond the ring. */
    assert_int_equal(records[1].header.count, 0);
    assert_int_equal(records[1].header.apic_id, 0x13);
}

static void the_longest_frame_fits(void **state)
{
    begin();
    identify(&records[0], 0xfffffffe, 0);
    uint32_t canary = records[0].header.waiting_since = 0x5aa5a55a;
    trace_format(&records[0].header, 15, STAGE_BSP_AP_SEEN, true, 0xffffffff);
    assert_int_equal(records[0].header.frame_len, 27);
    assert_int_equal(records[0].header.frame[26], '\n');
    assert_int_equal(records[0].header.waiting_since, canary);
    assert_true(records[0].header.frame_len <= TRACE_FRAME_MAX);
}

/* What STAGE() writes to memory alone, and that it goes on when the ring is
 * full.  GS base is the CPU's, as in the kernel: libc uses FS. */
static void stamps_fill_the_ring_and_go_round(void **state)
{
    begin();
    trace_choose_sinks(TRACE_SINK_MEMORY);
    struct percpu cpu = {.self = &cpu};
    assert_false(syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu));
    struct trace_ap_record *r = &records[0];
    for (uint16_t i = 0; i < TRACE_AP_ENTRIES; i++)
        r->entries[i].index = i;
    cpu.record = &r->header;

    unsigned first = TRACE_WAY, last = TRACE_AP_ENTRIES + 3;
    for (unsigned i = first; i < last; i++) {
        STAGE_WITH(BSP_AP_SEEN, i);
        assert_int_equal(r->header.count, i < TRACE_AP_ENTRIES ? 0 : i + 1);
        const struct trace_entry *e = &r->entries[i % TRACE_AP_ENTRIES];
        assert_true(e->tsc);
        assert_int_equal(e->index, i);
        assert_int_equal(e->argument, i);
        assert_int_equal(e->stage, STAGE_BSP_AP_SEEN);
        assert_int_equal(e->flags, TRACE_HAS_ARGUMENT);
    }
    assert_int_equal(port_e9.size, 0);
    /* No other place of the ring was touched, nor what follows it. */
    for (unsigned i = 3; i < first; i++)
        assert_int_equal(r->entries[i].tsc, 0);
    assert_int_equal(records[1].header.apic_id, 0x13);
}

static void an_ap_stamps_its_way_where_the_stages_stand(void **state)
{
    begin();
    trace_choose_sinks(TRACE_SINK_MEMORY);
    STAGE_AT(&records[0].header, AP_GS);
    STAGE_AT(&records[0].header, AP_INTERRUPTS);
    for (unsigned i = 0; i < TRACE_AP_ENTRIES; i++)
        assert_int_equal(!records[0].entries[i].tsc,
                         i != SLOT_AP_GS && i != SLOT_AP_INTERRUPTS);
    assert_int_equal(records[0].header.count, 0);
    /* With frames the entries are taken in turn. */
    trace_choose_sinks(TRACE_SINKS_ALL);
    STAGE_AT(&records[0].header, AP_GS);
    assert_int_equal(records[0].header.count, 1);
    assert_int_equal(records[0].entries[0].stage, STAGE_AP_GS);
    assert_true(port_e9.size);
}

static void every_stage_of_an_ap_has_its_own_entry(void **state)
{
    unsigned next = 0;
#undef STAGE
#define STAGE(code, name, mode, became, needs)                                 \
    if (TRACE_ON_WAY(code))                                                    \
        assert_int_equal(SLOT_##name, next++);
#include "../trampoline/stages.h"
    assert_int_equal(next, TRACE_WAY);
    assert_int_equal(SLOT_AP_UNKNOWN, SLOT_AP_C);
    assert_true(TRACE_WAY + 8 < TRACE_AP_ENTRIES);
}

static void *write_many(void *record)
{
    for (unsigned i = 0; i < FRAMES; i++)
        trace_stage(record, STAGE_AP_REAL16 + i % 4, false, 0);
    return NULL;
}

static void check_whole(const struct port_log *log)
{
    unsigned next[WRITERS] = {0}, apic, stage, sequence;
    size_t at = 0;
    while (next_frame(log, &at, &apic, &stage, &sequence)) {
        unsigned writer = apic >> 4;
        assert_true(writer < WRITERS && (apic & 15) == 3);
        assert_int_equal(sequence, next[writer] & 15);
        assert_int_equal(stage, STAGE_AP_REAL16 + next[writer] % 4);
        next[writer]++;
    }
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(next[i], FRAMES);
}

static void frames_of_many_writers_stay_whole(void **state)
{
    begin();
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        assert_false(
            pthread_create(&threads[i], NULL, write_many, &records[i].header));
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    check_whole(&port_e9);
    check_whole(&port_com1);
    assert_int_equal(trace_control->steals, 0);
    assert_int_equal(trace_control->lock & 0xffff, 0);
    assert_int_equal(trace_control->lock >> 16, WRITERS * FRAMES);
}

static void a_lock_that_nobody_gives_back_is_stolen(void **state)
{
    begin();
    trace_control->steal_after = 1000000;
    trace_control->lock = 7 << 16 | 4; /* slot 3 holds it, for good */
    trace_stage(&records[0].header, STAGE_AP_C, false, 0);
    assert_int_equal(trace_control->steals, 1);
    assert_int_equal(trace_control->lock, 8 << 16);
    assert_true(port_e9.size > 0);
}

static void a_dead_uart_does_not_stop_a_cpu(void **state)
{
    begin();
    uart_ready = 0;
    trace_stage(&records[0].header, STAGE_AP_C, false, 0);
    assert_int_equal(port_com1.size, 0);
    assert_true(port_e9.size > 0);
    assert_true(uart_polls <= TRACE_COM1_POLLS);
    assert_int_equal(trace_control->lock & 0xffff, 0);
}

static void every_stage_has_a_sentence_and_no_other_code_has(void **state)
{
    static const bool known[256] = {
#undef STAGE
#define STAGE(code, name, mode, became, needs) [code] = true,
#include "../trampoline/stages.h"
    };
    for (unsigned code = 0; code < 256; code++)
        assert_int_equal(stage_sentence((uint8_t)code) != NULL, known[code]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_a_frame_to_each_sink),
        cmocka_unit_test(obeys_the_choice_of_sinks),
        cmocka_unit_test(nobody_without_a_record_is_traced),
        cmocka_unit_test(the_history_keeps_the_newest),
        cmocka_unit_test(the_longest_frame_fits),
        cmocka_unit_test(stamps_fill_the_ring_and_go_round),
        cmocka_unit_test(an_ap_stamps_its_way_where_the_stages_stand),
        cmocka_unit_test(every_stage_of_an_ap_has_its_own_entry),
        cmocka_unit_test(frames_of_many_writers_stay_whole),
        cmocka_unit_test(a_lock_that_nobody_gives_back_is_stolen),
        cmocka_unit_test(a_dead_uart_does_not_stop_a_cpu),
        cmocka_unit_test(every_stage_has_a_sentence_and_no_other_code_has),
    };
    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
