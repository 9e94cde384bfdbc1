"""One figure of a trial, as a row of `docs/measured/runtime.csv`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..rows import append_row


@dataclass(frozen=True)
class Figure:
    """What was measured.

    Attributes:
        trial: which question it answers.
        arm: what was measured.
        against: what `value` is a ratio or a difference to; empty where it stands alone.
        bundle: name of the model, with its precision.
        engine: what ran it.
        data: the images.
        n: how many images, pairs or processes.
        value: the figure.
        low: lower end of its 95 % interval; None where there is none.
        high: upper end.
        unit: `ratio`, `Dice`, `ms`, ...
        goal: what the plan asks for, in words; empty where it asks for nothing.
    """

    trial: str
    arm: str
    against: str
    bundle: str
    engine: str
    data: str
    n: int
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    goal: str = ""


def write(csv: Path | str, figures: Sequence[Figure]) -> None:
    """Append figures with their circumstances, and print each."""
    for figure in figures:
        append_row(csv, asdict(figure))
        interval = "" if figure.low is None else f" ({figure.low:.4f} to {figure.high:.4f})"
        against = f" / {figure.against}" if figure.against else ""
        print(f"{figure.trial}: {figure.arm}{against}: {figure.value:.4f}{interval} {figure.unit}, {figure.goal}")
