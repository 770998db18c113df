# SPDX-License-Identifier: BSD-2-Clause
"""The report: one diagnosis as text for a person and as JSON for a program."""
