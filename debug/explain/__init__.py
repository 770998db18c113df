# SPDX-License-Identifier: BSD-2-Clause
"""The explanation: evidence in, derived facts out; names no cause."""

from debug.explain.explain import explain
from debug.explain.model import CpuState, CpuView, Explanation, Finding, Status, Step

__all__ = ["CpuState", "CpuView", "Explanation", "Finding", "Status", "Step", "explain"]
