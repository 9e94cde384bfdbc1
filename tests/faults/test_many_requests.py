"""Many requests: memory stays where it was, and no caller gets another's answer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.trials.soak import growth, resident_mib

from .rows import keep

STATM = Path("/proc/self/statm")
PROMPTS = ("red", "green", "blue", "red spot", "a round blue spot")


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*rng.integers(20, 120, 2), 3), dtype=np.uint8) for _ in range(count)]


def crossed(bundle: Path, callers: int, requests: int) -> int:
    """Return how many of the requests, by so many callers at once of one segmenter, got another answer than alone."""
    images = pictures(12)
    with Segmenter.open(bundle, threads=1) as alone:
        truth = {(i, p): alone.run(image, p).probability for i, image in enumerate(images) for p in PROMPTS}
    with Segmenter.open(bundle, threads=1) as shared:

        def ask(seed: int) -> int:
            draw, wrong = np.random.default_rng(seed), 0
            for _ in range(requests // callers):
                i, prompt = int(draw.integers(len(images))), PROMPTS[draw.integers(len(PROMPTS))]
                wrong += not np.array_equal(shared.run(images[i], prompt).probability, truth[i, prompt])
            return wrong

        with ThreadPoolExecutor(callers) as pool:
            return sum(pool.map(ask, range(callers)))


def memory_of(bundle: Path, requests: int) -> list[float]:
    """Return the resident memory after each request, MiB, the first tenth left out; no picture comes twice."""
    rng, memory = np.random.default_rng(0), []
    with Segmenter.open(bundle, threads=1) as segmenter:
        for i in range(requests):
            segmenter.run(
                rng.integers(0, 256, (*rng.integers(200, 600, 2), 3), dtype=np.uint8), PROMPTS[i % 5] + f" {i}"
            )
            if i >= requests // 10:
                memory.append(resident_mib())
    return memory


def test_two_hundred_requests_of_sixteen_callers(toy_bundle):
    assert crossed(toy_bundle, 16, 208) == 0


@pytest.mark.skipif(not STATM.exists(), reason="Linux alone tells the resident memory")
def test_memory_after_two_hundred_requests(toy_bundle):
    assert growth(memory_of(toy_bundle, 200)) < 0.1


@pytest.mark.soak
def test_two_thousand_requests_of_sixteen_callers(walked, toy_bundle):
    for name, bundle in (("toy", toy_bundle), ("nano, as quickstart exports it", walked.out / "bundle")):
        wrong = crossed(bundle, 16, 2000)
        keep("16 callers at once", name, "answers that were another's", wrong, "answers", 2000)
        assert wrong == 0


@pytest.mark.soak
@pytest.mark.skipif(not STATM.exists(), reason="Linux alone tells the resident memory")
def test_memory_after_two_thousand_requests(walked):
    memory = memory_of(walked.out / "bundle", 2000)
    note = f"highest {max(memory):.0f} MiB"
    keep(
        "requests in a row",
        "nano",
        "memory of the last tenth over the first, less 1",
        growth(memory),
        "share",
        2000,
        note,
    )
    assert growth(memory) < 0.02
