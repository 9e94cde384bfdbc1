"""How the learning rate moves within a run whose length is known: a linear warm-up, then a cosine."""

import math
from typing import Literal

Curve = Literal["half", "seven-sixteenths"]


def factor(step: int, total: int, warmup: int, curve: Curve = "half") -> float:
    """Return what the learning rate is multiplied by at `step`, 0 to `total` - 1, after `warmup` steps that rise.

    "half" is half a cosine, which ends at 0; "seven-sixteenths" is a cosine that ends at 7 pi / 16, at 0.195, as in
    LGA's released code.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if curve == "half":
        return 0.5 * (1 + math.cos(math.pi * done))
    return max(0.0, math.cos(7 / 16 * math.pi * done))
