# SPDX-License-Identifier: BSD-2-Clause
"""Machines that nobody here built, as Debian packages them: healthy, and broken on purpose."""
