"""The cold start of one bundle in a process of its own: loading, the first mask, and the memory it takes.

`python -m vlseg.deploy.bench.cold` reads one JSON object from stdin and writes one to stdout.
"""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from ..errors import UserError

TIMEOUT = 600


def cold(
    folder: Path,
    engine: str,
    threads: int | None,
    image: Path,
    prompt: str,
    batches: list[int],
    adapter: str = "",
) -> dict[str, Any]:
    """Return what a fresh process measured, milliseconds and MiB.

    Keys: `read_ms` (the bundle's bytes, once from disk), `load_ms` (libraries, manifest, hashes, engines), `first_ms`
    (the first file to mask after that), `rss_mib` and `gpu_mib` (batch as text -> most memory up to that batch).

    `adapter` is which of several it answers with, empty for the first.

    Raises:
        UserError: the process fails, with what it said last.
    """
    asked = {"folder": str(folder), "engine": engine, "threads": threads, "image": str(image), "prompt": prompt}
    asked |= {"batches": batches, "adapter": adapter}
    done = subprocess.run(
        [sys.executable, "-m", "vlseg.deploy.bench.cold"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(f"{folder} on {engine} did not start in a process of its own, which said: {said}")
    return json.loads(done.stdout)


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what `cold` describes in this process, which must be fresh."""
    folder, start = Path(asked["folder"]), perf_counter()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.read_bytes()
    read = perf_counter()
    # imported here, since it belongs to the start that is measured
    from ..pixels import read_image
    from ..segmenter import Segmenter

    with Segmenter.open(folder, asked["engine"], asked["threads"]) as segmenter:
        if asked["adapter"]:
            segmenter.use(asked["adapter"])
        loaded = perf_counter()
        picture = read_image(asked["image"])
        segmenter.segment(picture, asked["prompt"])
        first = perf_counter()
        memory = _memory(segmenter, picture, asked["prompt"], asked["batches"])
    return {
        "read_ms": (read - start) * 1e3,
        "load_ms": (loaded - read) * 1e3,
        "first_ms": (first - loaded) * 1e3,
        **memory,
    }


def _memory(segmenter: Any, picture: Any, prompt: str, batches: list[int]) -> dict[str, Any]:
    """Return the most memory after each batch, from the smallest to the largest; a batch that fails has none."""
    from ..errors import EngineError
    from ..facts import peak_rss_mib
    from .device import own_gpu_mib

    rss: dict[str, float | None] = {}
    gpu: dict[str, float | None] = {}
    for batch in sorted(batches):
        try:
            segmenter.inputs_of_parts(picture, prompt, batch)
        except EngineError:
            continue
        rss[str(batch)], gpu[str(batch)] = peak_rss_mib(), own_gpu_mib()
    return {"rss_mib": rss, "gpu_mib": gpu}


if __name__ == "__main__":
    try:
        print(json.dumps(measure(json.load(sys.stdin))))
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
