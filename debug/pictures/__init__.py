# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of a machine, drawn from its diagnosis: SVG that the same run gives byte for byte.

A face of the report, as debug/report/text.py is one: it reads evidence and explanation and
derives nothing of its own.
"""
