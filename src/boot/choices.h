/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The boot options: the one source of the parser in options.c and of
 * docs/boot-options.md (debug/kernel/options_document.py, `make generate`).
 *
 *   CHOICE("name=value", field, value, "what it does")
 *   SINK("word", value, "where stages go")       words of trace=a,b
 *   VALUE("name=", "WHAT", "what it does")        parsed by hand
 *   EXCLUDES("word", "other", "why")              how both words begin
 */

/* clang-format off */
CHOICE("smp=parallel", smp, SMP_PARALLEL,
       "start all APs at once, each by its APIC ID (the default)")
CHOICE("smp=serial", smp, SMP_SERIAL,
       "start the APs one after another")
CHOICE("smp=broadcast", smp, SMP_BROADCAST,
       "one INIT and one SIPI to all but self; also wakes CPUs that the MADT "
       "marks disabled, which park")
CHOICE("smp=off", smp, SMP_OFF,
       "leave the APs alone")
CHOICE("apic=auto", apic, APIC_AUTO,
       "x2APIC where CPUID has it (the default)")
CHOICE("apic=xapic", apic, APIC_XAPIC,
       "force xAPIC, which can address IDs up to 254")
CHOICE("apic=x2apic", apic, APIC_X2APIC,
       "force x2APIC; an error on a CPU without it")
CHOICE("trace=all", sinks, TRACE_SINKS_ALL,
       "stages to port 0xE9, COM1 and memory (the default)")
CHOICE("trace=none", sinks, 0,
       "no stages from the moment when the command line has been read")
CHOICE("selftest", selftest, true,
       "check what the boot made true, one KTAP line each, and end the "
       "machine with an exit code")

CHOICE("workload", workload, true,
       "share a computation among 1, 2, 4 ... CPUs, and print what each did")

SINK("e9", TRACE_SINK_E9, "stages to port 0xE9")
SINK("com1", TRACE_SINK_COM1, "stages to COM1")
SINK("mem", TRACE_SINK_MEMORY, "stages to the record in memory")

VALUE("maxcpus=", "N",
      "use so many CPUs at most, the BSP included; the others are left alone")
VALUE("trampoline=", "ADDRESS",
      "the page that the APs start in; default 0x8000, or the first free page "
      "where that one is taken")

EXCLUDES("smp=off", "maxcpus=", "smp=off uses the BSP alone")
EXCLUDES("smp=broadcast", "maxcpus=", "a broadcast starts all CPUs")
/* clang-format on */
