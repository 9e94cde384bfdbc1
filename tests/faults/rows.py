"""Where long runs leave their rows: `docs/measured/soak.csv`, or what VLSEG_SOAK_ROWS names."""

import os
from pathlib import Path

from vlseg.deploy.rows import append_row

ROWS = Path(__file__).parents[2] / "docs" / "measured" / "soak.csv"


def keep(trial: str, subject: str, measure: str, value: float, unit: str, n: int, note: str = "") -> None:
    """Add a row: what was tried on what, and what came out over `n` of them."""
    row = {"trial": trial, "subject": subject, "measure": measure, "value": value, "unit": unit, "n": n, "note": note}
    append_row(os.environ.get("VLSEG_SOAK_ROWS", ROWS), row)
