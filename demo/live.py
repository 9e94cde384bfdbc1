"""How long answers took lately: times by bundle, nothing of what was asked."""

from collections import deque
from dataclasses import asdict
from threading import Lock

from ..deploy.answers import Timings
from ..deploy.stats import summary

KEPT = 200


class Live:
    """The last answers' timings of each bundle; safe for many threads."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Timings]] = {}
        self._lock = Lock()

    def add(self, bundle: str, timings: Timings) -> None:
        """Keep one answer's timings."""
        with self._lock:
            self._kept.setdefault(bundle, deque(maxlen=KEPT)).append(timings)

    def count(self, bundle: str) -> int:
        """Return how many answers are kept of a bundle."""
        with self._lock:
            return len(self._kept.get(bundle, ()))

    def totals(self, bundle: str) -> dict[str, float]:
        """Return p50_ms, p90_ms, ... of whole answers; empty where there was none."""
        times = [timings.total for timings in self._of(bundle)]
        return summary(times) if times else {}

    def stages(self, bundle: str) -> dict[str, dict[str, float]]:
        """Return the same for each stage, over the answers in which it ran: the cache answers for the others."""
        rows = [asdict(timings) for timings in self._of(bundle)]
        ran = {stage: [row[stage] for row in rows if row[stage]] for stage in (rows[0] if rows else ())}
        return {stage: summary(times) for stage, times in ran.items() if times}

    def _of(self, bundle: str) -> list[Timings]:
        with self._lock:
            return list(self._kept.get(bundle, ()))
