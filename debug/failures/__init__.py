# SPDX-License-Identifier: BSD-2-Clause
"""The failure table: root causes as data, tested against evidence and explanation."""
