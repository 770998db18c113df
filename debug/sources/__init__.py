# SPDX-License-Identifier: BSD-2-Clause
"""The sources of evidence: each fills debug.evidence.Evidence and knows nothing else."""
