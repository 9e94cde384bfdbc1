"""What an answer is: probability, mask, and where the time went."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np


@dataclass
class Timings:
    """Milliseconds that one call spent in each stage; a stage answered from the cache costs 0.

    Reading and decoding the file is not in it: that happens before the call.
    """

    preprocess: float = 0.0
    image: float = 0.0
    text: float = 0.0
    decoder: float = 0.0
    postprocess: float = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the milliseconds that the body takes to a stage."""
        start = perf_counter()
        yield
        setattr(self, stage, getattr(self, stage) + (perf_counter() - start) * 1000)

    @property
    def total(self) -> float:
        """Return the sum of the stages."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Result:
    """One answer.

    Attributes:
        probability: float32 (H, W), 0..1, at the size of the picture.
        mask: bool (H, W), where the probability is above the threshold, cleaned where that was asked for.
        timings: where the time went; shared by the answers of one call.
    """

    probability: np.ndarray
    mask: np.ndarray
    timings: Timings
