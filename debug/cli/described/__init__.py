# SPDX-License-Identifier: BSD-2-Clause
"""The command line described to others: the manual page and the shells' completion.

`model` reads the parsers; the other modules are pure functions from its model to text.
"""
