# SPDX-License-Identifier: BSD-2-Clause
"""What tracing costs, what each CPU costs, and how soon a verdict comes: `make bench`.

The unit is the guest instruction.  It is counted by a QEMU plugin (count.c), not taken from the
clock, although `-icount` makes the TSC a count of instructions (shift=0: one cycle each), because
with more than one CPU that clock jumps.  Measured on QEMU 7.2; what is said of slices and of what
they book stands in its sources too:

- A halted AP takes a pending INIT only together with its SIPI: INIT alone does not count as work
  for a CPU that sleeps.  So the INIT is taken after the SIPI was sent, whatever the BSP waits.
- Taking INIT resets the AP in the middle of its time slice, and with it the counter of what is
  left of the slice.  The whole slice is then booked as executed.  A slice lasts until the next
  timer of the virtual clock, here the PIT's (54.9 ms): the clock jumps exactly there.
- An AP whose turn comes while that timer is due gets an empty slice and books nothing.  So n APs
  started at once cost n / 2 PIT periods, rounded up, the first of them begun already: 138.5 ms on
  the clock with 8 CPUs, for 67 479 instructions.  Silencing the PIT would make the jumps longer:
  with no timer a slice lasts 2.1 s.
- Because of the jump the BSP finds its wait after the SIPI over before any AP has run.  udelay()
  pauses once more then, which lets them run; without that the BSP sent each AP a second SIPI or
  none, as the PIT's phase would have it.  A few are left with 255 CPUs; the table says how many.

Where nothing jumps, counter and clock agree to the instruction (one CPU, shift=0).  Counts are the
same in every run, however busy the host is.

shift=7 (128 ns an instruction) is for speed: the kernel measures its TSC for 10 ms of virtual time,
and each of its polls lets QEMU look at every CPU.  On a busy host of two cores 255 CPUs boot in 8 s
with it and in 62 s with shift=0; the instructions of 8 CPUs are the same with both.
"""
