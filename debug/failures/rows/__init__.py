# SPDX-License-Identifier: BSD-2-Clause
"""The rows, grouped by where in a CPU's life they happen.

Each module has `ROWS`.  A new row is one more `Row(...)` with its matcher; nothing else changes.
"""
