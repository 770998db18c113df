# SPDX-License-Identifier: BSD-2-Clause
"""The stage protocol: its table, its frames, its record in memory and the views of a trace."""
