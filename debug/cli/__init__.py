# SPDX-License-Identifier: BSD-2-Clause
"""The `lamppost` command: a thin face on the packages beside it."""
