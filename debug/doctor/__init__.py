# SPDX-License-Identifier: BSD-2-Clause
"""What is installed and what it can do, tried out and not read off version numbers.

`probes` tries a program, `checks` lists what is tried and what is lost without it.
"""
