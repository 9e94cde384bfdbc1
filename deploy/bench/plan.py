"""What is measured: subjects, tasks, and how often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..segmenter import Segmenter

PROMPT = "one small round bright spot in the upper left of the image"
Progress = Callable[[int, int], None]
Call = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """One thing to time: a bundle (or a run in torch) on an engine, under the name that its rows carry.

    `adapter` is the one it answers with, empty where it has one for good.
    """

    bundle: str
    segmenter: Segmenter
    adapter: str = ""

    @property
    def label(self) -> str:
        """The name by which `--against` calls it: bundle:engine."""
        return f"{self.bundle}:{self.segmenter.engine}"


@dataclass(frozen=True)
class Task:
    """One stage of one subject: `prepare` is not timed, `call` is."""

    prepare: Call
    call: Call


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        repeats: timed rounds.
        warmup: least rounds before them; 0 times cold calls too.
        batches: batch sizes of the engine stages; the stages from picture to mask have batch 1.
        prompt: the sentence; a bundle of fixed prompts is asked its first one.
        most: rounds of warm-up after which a task that is not steady is timed all the same, and said to be unsteady.
    """

    repeats: int = 50
    warmup: int = 5
    batches: Sequence[int] = (1,)
    prompt: str = PROMPT
    most: int = 50

    def check(self) -> None:
        """Raise UserError where a count is too small."""
        if min(self.repeats, self.warmup + 1, *self.batches) < 1 or not self.batches:
            raise UserError(f"{self} has a count below 1, expected at least one repeat and batches from 1")


def find(subjects: Sequence[Subject], name: str | None) -> int:
    """Return which subject a name means: `bundle:engine`, or a bundle alone; None is the first.

    Raises:
        UserError: no subject is called so.
    """
    if name is None:
        return 0
    for i, subject in enumerate(subjects):
        if name in (subject.label, subject.bundle):
            return i
    raise UserError(f"--against {name!r} is not measured here; known: {', '.join(one.label for one in subjects)}")
