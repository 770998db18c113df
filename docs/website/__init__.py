# SPDX-License-Identifier: BSD-2-Clause
"""The website: the documents of this folder's parent as pages that need no server and no script.

It stands among the documents because it is a way of reading them: it knows where they lie and how
they link, and nothing of how they came about.  `make website` writes build/website.
"""
