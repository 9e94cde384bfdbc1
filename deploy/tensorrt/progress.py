"""Progress of a build as a bar, and Ctrl-C that ends it between two steps."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
Tell = Callable[[int, int], None]
_POLL = 0.1  # seconds between looks whether the build has ended or Ctrl-C was pressed


def monitor(trt: Any, tell: Tell, cancelled: threading.Event) -> Any:
    """Return a progress monitor that tells `tell` the steps of the outermost phase, and stops once `cancelled` is set.

    TensorRT calls it from several threads.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                if parent_phase is None:
                    self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                total = self._steps.get(phase_name)
                if total:
                    tell(min(step + 1, total), total)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                if total := self._steps.pop(phase_name, None):
                    tell(total, total)

    return Monitor()


def interruptible(work: Callable[[], Result], cancelled: threading.Event) -> Result:
    """Return what `work` returns, run in a thread so that Ctrl-C is heard while TensorRT works in C++.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and `work`, told so by `cancelled`, has ended.
    """
    ended: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="vlseg build", daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_POLL)
    except KeyboardInterrupt:
        cancelled.set()
        while thread.is_alive():
            thread.join()
        raise KeyboardInterrupt("the build was stopped; nothing of the engine in progress was written") from None
    if failed:
        raise failed[0]
    return ended[0]
