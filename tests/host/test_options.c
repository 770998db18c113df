/* SPDX-License-Identifier: BSD-2-Clause */
#include "test.h"

#include <string.h>

#include "boot/options.h"
#include "trace/trace.h"

static struct options options;
static char error[300];

static bool parse(const char *cmdline)
{
    memset(error, 0, sizeof error);
    return options_parse(&options, cmdline, error, sizeof error);
}

static void defaults(void **state)
{
    static const char *const empty[] = {"", " ", "     "};
    for (size_t i = 0; i < 3; i++) {
        assert_true(parse(empty[i]));
        assert_int_equal(options.smp, SMP_PARALLEL);
        assert_int_equal(options.apic, APIC_AUTO);
        assert_int_equal(options.trampoline, 0);
        assert_int_equal(options.sinks, TRACE_SINKS_ALL);
        assert_false(options.selftest);
    }
}

static void each_option(void **state)
{
    static const struct {
        const char *word;
        struct options expected;
    } rows[] = {
        {"smp=parallel", {.sinks = 7}},
        {"smp=serial", {.smp = SMP_SERIAL, .sinks = 7}},
        {"smp=broadcast", {.smp = SMP_BROADCAST, .sinks = 7}},
        {"smp=off", {.smp = SMP_OFF, .sinks = 7}},
        {"apic=auto", {.sinks = 7}},
        {"apic=xapic", {.apic = APIC_XAPIC, .sinks = 7}},
        {"apic=x2apic", {.apic = APIC_X2APIC, .sinks = 7}},
        {"trampoline=0x9000", {.trampoline = 0x9000, .sinks = 7}},
        {"trampoline=4096", {.trampoline = 0x1000, .sinks = 7}},
        {"trampoline=0x9f000", {.trampoline = 0x9f000, .sinks = 7}},
        {"maxcpus=3", {.sinks = 7, .maxcpus = 3}},
        {"workload", {.sinks = 7, .workload = true}},
        {"trace=all", {.sinks = 7}},
        {"trace=none", {.sinks = 0}},
        {"trace=e9", {.sinks = 1}},
        {"trace=com1,mem", {.sinks = 6}},
        {"trace=mem,e9,mem", {.sinks = 5}},
        {"selftest", {.sinks = 7, .selftest = true}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!parse(rows[i].word))
            fail_msg("%s: %s", rows[i].word, error);
        assert_int_equal(options.smp, rows[i].expected.smp);
        assert_int_equal(options.apic, rows[i].expected.apic);
        assert_int_equal(options.trampoline, rows[i].expected.trampoline);
        assert_int_equal(options.sinks, rows[i].expected.sinks);
        assert_int_equal(options.selftest, rows[i].expected.selftest);
        assert_int_equal(options.workload, rows[i].expected.workload);
        assert_int_equal(options.maxcpus, rows[i].expected.maxcpus);
    }
}

static void words_in_any_order_and_more_than_once(void **state)
{
    assert_true(
        parse("  selftest   smp=serial apic=xapic smp=serial selftest "));
    assert_int_equal(options.smp, SMP_SERIAL);
    assert_int_equal(options.apic, APIC_XAPIC);
    assert_true(options.selftest);
}

static void an_error_names_the_word_and_what_was_expected(void **state)
{
    static const struct {
        const char *cmdline, *word, *expected;
    } rows[] = {
        {"maxcpus=0", "\"maxcpus=0\"", "from 1 on"},
        {"maxcpus=many", "\"maxcpus=many\"", "from 1 on"},
        {"selftest frobnicate", "\"frobnicate\"", "expected smp=, apic="},
        {"smp", "\"smp\"", "expected"},
        {"smp=", "\"smp=\"", "expected"},
        {"smp=Serial", "\"smp=Serial\"", "expected"},
        {"smp=serialx", "\"smp=serialx\"", "expected"},
        {"selftest=1", "\"selftest=1\"", "expected"},
        {"smp=serial,apic=xapic", "\"smp=serial,apic=xapic\"", "expected"},
        {"trace=", "\"trace=\"", "trace=all"},
        {"trace=,", "\"trace=,\"", "trace=all"},
        {"trace=e9,", "\"trace=e9,\"", "trace=all"},
        {"trace=e9,,mem", "\"trace=e9,,mem\"", "trace=all"},
        {"trace=e", "\"trace=e\"", "trace=all"},
        {"trace=e9x", "\"trace=e9x\"", "trace=all"},
        {"trampoline=", "\"trampoline=\"", "0x9f000"},
        {"trampoline=0x", "\"trampoline=0x\"", "0x9f000"},
        {"trampoline=0", "\"trampoline=0\"", "0x9f000"},
        {"trampoline=0x8001", "\"trampoline=0x8001\"", "0x1000"},
        {"trampoline=0xa0000", "\"trampoline=0xa0000\"", "0x9f000"},
        {"trampoline=0x9G00", "\"trampoline=0x9G00\"", "0x9f000"},
        {"trampoline=9000", "\"trampoline=9000\"", "0x9f000"},
        {"trampoline=-4096", "\"trampoline=-4096\"", "0x9f000"},
        {"trampoline=0x10000000000008000", "08000\"", "0x9f000"},
        {"trampoline=18446744073709584384", "84384\"", "0x9f000"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (parse(rows[i].cmdline))
            fail_msg("\"%s\" was accepted", rows[i].cmdline);
        if (!strstr(error, rows[i].word) || !strstr(error, rows[i].expected))
            fail_msg("\"%s\": %s", rows[i].cmdline, error);
    }
}

static void what_contradicts_is_refused_with_both_words(void **state)
{
    static const struct {
        const char *cmdline, *word, *other;
    } rows[] = {
        {"smp=serial selftest smp=off", "\"smp=serial\"", "\"smp=off\""},
        {"trace=none trace=mem", "\"trace=none\"", "\"trace=mem\""},
        {"trace=e9 trace=mem", "\"trace=e9\"", "\"trace=mem\""},
        {"apic=xapic apic=x2apic", "\"apic=xapic\"", "\"apic=x2apic\""},
        {"maxcpus=2 maxcpus=3", "\"maxcpus=2\"", "\"maxcpus=3\""},
        {"trampoline=0x9000 trampoline=0x8000", "0x9000\"", "0x8000\""},
        {"smp=off maxcpus=4", "\"smp=off\"", "smp=off uses the BSP"},
        {"maxcpus=4 smp=off", "\"maxcpus=4\"", "\"smp=off\""},
        {"smp=broadcast maxcpus=2", "\"smp=broadcast\"", "starts all CPUs"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (parse(rows[i].cmdline))
            fail_msg("\"%s\" was accepted", rows[i].cmdline);
        if (!strstr(error, rows[i].word) || !strstr(error, rows[i].other) ||
            !strstr(error, "contradict each other"))
            fail_msg("\"%s\": %s", rows[i].cmdline, error);
    }
}

static void long_words_are_refused(void **state)
{
    char cmdline[600];
    memset(cmdline, 'a', sizeof cmdline);
    cmdline[sizeof cmdline - 1] = '\0';
    assert_false(parse(cmdline));
    assert_true(strlen(error) < sizeof error - 1);

    /* What stands before the cut would be an option. */
    memset(cmdline, '0', sizeof cmdline);
    memcpy(cmdline, "trampoline=0x", 13);
    strcpy(cmdline + 59, "9000zzzzzz");
    assert_false(parse(cmdline));
}

static void survives_any_text(void **state)
{
    static const char *const parts[] = {"smp=",  "trace=", "trampoline=", ",",
                                        "e9",    "0x",     "9000",        " ",
                                        "apic=", "off",    "\xff",        "="};
    for (int round = 0; round < 20000; round++) {
        char text[200] = "";
        for (uint32_t n = below(12); n; n--)
            strcat(text, parts[below(12)]);
        char small[8];
        bool whole = parse(text);
        memset(small, 0, sizeof small);
        assert_int_equal(options_parse(&options, text, small, sizeof small),
                         whole);
        assert_int_equal(options.sinks & ~7u, 0);
        assert_int_equal(options.trampoline % 0x1000, 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(each_option),
        cmocka_unit_test(words_in_any_order_and_more_than_once),
        cmocka_unit_test(an_error_names_the_word_and_what_was_expected),
        cmocka_unit_test(what_contradicts_is_refused_with_both_words),
        cmocka_unit_test(long_words_are_refused),
        cmocka_unit_test(survives_any_text),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
