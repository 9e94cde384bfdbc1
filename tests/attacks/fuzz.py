"""Coverage-guided fuzzing of one door: `python tests/attacks/fuzz.py TARGET --seconds 60 --corpus DIR`.

Needs atheris, which has wheels for some Pythons alone: `pip install atheris`. What it finds is written to DIR/found;
a finding that is mended belongs into `tests/attacks/findings/TARGET/`.
"""

import argparse
import sys
from pathlib import Path

import atheris

# libFuzzer knows how far it came by the branches of these alone
with atheris.instrument_imports(include=["vlseg.deploy", "vlseg.train", "PIL", "pydicom", "nibabel"]):
    sys.path.insert(0, str(Path(__file__).parent))
    import targets

SECONDS_EACH, MEGABYTES, LONGEST = 20, 3000, 4096


def main() -> None:
    """Fuzz until the time is over or something is found; libFuzzer ends the process itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    corpus, found = asked.corpus / asked.target, asked.corpus / "found" / asked.target
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(targets.seeds(asked.target)):
        (corpus / f"seed-{i}").write_bytes(data)
        targets.TARGETS[asked.target](data)  # loads what it needs before the clock of one example runs
    limits = [f"-max_total_time={asked.seconds}", f"-timeout={SECONDS_EACH}", f"-rss_limit_mb={MEGABYTES}"]
    options = [f"-max_len={LONGEST}", f"-seed={asked.seed}", "-print_final_stats=1", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], targets.TARGETS[asked.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
