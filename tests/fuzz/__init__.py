# SPDX-License-Identifier: BSD-2-Clause
"""`make fuzz`: damaged files, and what may be said of them."""
