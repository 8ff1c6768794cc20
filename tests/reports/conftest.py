"""The property that the tests of pages use, for the reports behind them."""

from __future__ import annotations

from fernmoor import as_owner, fernmoor, laid_out

__all__ = ["as_owner", "fernmoor", "laid_out"]
