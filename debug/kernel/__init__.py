# SPDX-License-Identifier: BSD-2-Clause
"""This project's own kernel as a machine: how it is started, shown and diagnosed."""
