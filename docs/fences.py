"""The commands and snippets of the documentation, and what those need that no test can give them.

A fence's first line names its language and then facts: `needs=WORD` (one of `NEEDS`), `on=page` where it is run against
a page that is open, `on=little` where it is run on less than a reader would give it, or `file=`, `append=` and `in=` of
the pages that `tests/test_added.py` follows. `python docs/fences.py` counts.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
NEEDS = {
    "hub": "published weights, by their names or a local folder",
    "gpu": "an NVIDIA GPU with TensorRT",
    "jetson": "a Jetson",
    "camera": "a camera",
    "minutes": "minutes of a processor; parts of it run elsewhere in the tests",
    "hours": "hours of a processor",
    "make": "an installation of its own",
}
LANGUAGES = ("sh", "python", "diff", "toml", "console", "text", "")
FENCE = re.compile(r"^```(\w*)((?: [a-z]+=\S+)*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    """A block of a page: its language, the facts beside it, its text."""

    page: Path
    language: str
    facts: dict[str, str]
    text: str

    @property
    def lines(self) -> list[str]:
        """The command lines of a shell block or a console, continued ones joined, comments left out."""
        if self.language == "console":
            return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        whole = self.text.replace("\\\n", " ")
        stripped = (re.sub(r"\s+#.*$", "", line).strip() for line in whole.splitlines())
        return [line for line in stripped if line and not line.startswith("#")] if self.language == "sh" else []

    def needs(self, line: str = "") -> str:
        """What it, or a line of it, needs; "" where a test runs it."""
        return self.facts.get("needs", "make" if line.startswith("make ") else "")

    @property
    def on(self) -> str:
        """What a test of its own runs it on: an open "page", or "little" data; "" where any stage will do."""
        return self.facts.get("on", "")

    @property
    def followed(self) -> bool:
        """Is it a step of a page that is followed in a copy of the package?"""
        return bool(self.facts.keys() & {"file", "append", "in"})


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def fences(page: Path) -> list[Fence]:
    """Return the blocks of a page, in its order."""
    found = FENCE.findall(page.read_text())
    return [Fence(page, kind, dict(f.split("=", 1) for f in facts.split()), text) for kind, facts, text in found]


def counts() -> Counter[str]:
    """Return how many command lines and snippets are run by a test ("run"), and how many need what."""
    found: Counter[str] = Counter()
    for page in pages():
        for fence in fences(page):
            found.update(fence.needs(line) or "run" for line in fence.lines)
            if fence.language == "python" and "in" not in fence.facts:
                found[fence.needs() or "run"] += 1
    return found


def told() -> str:
    """Return the counts as a sentence."""
    found = counts()
    rest = ", ".join(f"{count} {word}" for word, count in sorted(found.items()) if word != "run")
    return (
        f"Of {sum(found.values())} command lines and snippets on these pages the tests run {found['run']}; not: {rest}."
    )


if __name__ == "__main__":
    print(told())
