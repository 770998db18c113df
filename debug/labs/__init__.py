# SPDX-License-Identifier: BSD-2-Clause
"""The fault labs: each is the kernel with one bug, and what must be said of it.

    tests/labs/ID/lab.toml      the bug in words, the machine, the expected verdicts
    tests/labs/ID/break.patch   the bug
"""
