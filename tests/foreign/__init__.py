# SPDX-License-Identifier: BSD-2-Clause
"""Machines that nobody here built: no lamps, no symbols, and one bug each."""
