"""Power while something runs: watts, clock and temperature, from `tegrastats` on a Jetson or `nvidia-smi` elsewhere."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from time import perf_counter, sleep
from types import TracebackType

from .device import number

PERIOD_MS = 100
SECONDS = 2.0
"""How long an energy figure is measured at least: the sensors average over tens of milliseconds."""
_SMI = "power.draw,clocks.sm,temperature.gpu,clocks_throttle_reasons.active"
# bits of clocks_throttle_reasons.active that mean a limit of power or heat; idle and chosen clocks are none
_LIMITS = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat", 0x40: "hardware heat", 0x80: "power brake"}


@dataclass(frozen=True)
class Reading:
    """One sample: seconds (perf_counter), watts, MHz of the GPU, degrees Celsius, what holds the clock down."""

    at: float
    watts: float | None
    mhz: float | None
    celsius: float | None
    held_by: tuple[str, ...] = ()


class Meter:
    """Samples the device in the background from entering to leaving.

    Attributes:
        source: the program that tells.
        readings: samples so far.
    """

    def __init__(self, source: str, words: list[str], parse: Callable[[str], Reading | None]):
        self.source, self.readings = source, list[Reading]()
        self._words, self._parse = words, parse

    def __enter__(self) -> "Meter":
        """Start the program and follow it."""
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the program."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        if self._process.stdout:
            self._process.stdout.close()

    def between(self, start: float, end: float) -> list[Reading]:
        """Return the samples of a stretch of time."""
        return [reading for reading in self.readings if start <= reading.at <= end]

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if (reading := self._parse(line)) is not None:
                self.readings.append(reading)


def find_meter() -> Meter | None:
    """Return a meter that is not started, or None where nothing here tells its power."""
    if shutil.which("tegrastats"):
        return Meter("tegrastats", ["tegrastats", "--interval", str(PERIOD_MS)], from_tegrastats)
    if shutil.which("nvidia-smi"):
        words = ["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader,nounits", "-i", "0", "-lms"]
        return Meter("nvidia-smi", [*words, str(PERIOD_MS)], from_smi)
    return None


def from_tegrastats(line: str) -> Reading | None:
    """Read one line: VDD_IN (the whole module) in mW, GR3D_FREQ's clock, the hottest of its temperatures."""
    power = re.search(r"\b(?:VDD_IN|POM_5V_IN) (\d+)(?:mW)?/", line)
    clock = re.search(r"GR3D_FREQ \d+%@\[?(\d+)", line)
    heat = [float(text) for text in re.findall(r"@(-?[\d.]+)C", line)]
    if not (power or clock or heat):
        return None
    watts = int(power[1]) / 1000 if power else None
    return Reading(perf_counter(), watts, float(clock[1]) if clock else None, max(heat, default=None))


def from_smi(line: str) -> Reading | None:
    """Read one line of `_SMI`."""
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 4:
        return None
    bits = int(cells[3], 16) if re.fullmatch(r"0x[0-9a-fA-F]+", cells[3]) else 0
    held = tuple(name for bit, name in _LIMITS.items() if bits & bit)
    return Reading(perf_counter(), number(cells[0]), number(cells[1]), number(cells[2]), held)


def energy(call: Callable[[], object], images: int, meter: Meter, seconds: float = SECONDS) -> dict[str, float | None]:
    """Return `watts` and `mj_per_image` while `call`, which makes `images` masks, runs alone again and again.

    Watts are the mean of the samples; None where none of them had any.
    """
    start, count = perf_counter(), 0
    while perf_counter() - start < seconds:
        call()
        count += images
    end = perf_counter()
    sleep(2 * PERIOD_MS / 1000)
    told = [reading.watts for reading in meter.between(start, end) if reading.watts is not None]
    if not told:
        return {"watts": None, "mj_per_image": None}
    watts = sum(told) / len(told)
    return {"watts": watts, "mj_per_image": 1000 * watts * (end - start) / count}
