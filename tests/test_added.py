"""The pages on adding a method and an operator, followed to the letter in a copy of the package."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlseg.train.clinic import write_dataset

ROOT = Path(__file__).parent.parent
PAGES = ("add-a-method", "add-an-operator")
ROOMS = ("cli", "deploy", "demo", "export", "kernels", "train", "tests", "docs")
FENCE = re.compile(r"^```(\w+) (file|append|in)=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def steps(page: str) -> list[tuple[str, str, str, str]]:
    """Return a page's blocks: language, what to do with it, where, and the text."""
    return FENCE.findall((ROOT / "docs" / f"{page}.md").read_text())


def edited(text: str, diff: str, where: str) -> str:
    """Return a file with a block of a diff applied: its context and removed lines must stand there once."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"{where} has this {text.count(old)} times:\n{old}"
    return text.replace(old, new)


def follow(page: str, root: Path) -> None:
    """Do in `root` what a page says about files."""
    for language, how, name, text in steps(page):
        path = root / name
        if how == "append":
            path.write_text(path.read_text() + text)
        elif how == "file" and language == "diff":
            path.write_text(edited(path.read_text(), text, name))
        elif how == "file":
            assert not path.exists(), f"{name} is there already"
            path.write_text(text)


def copy(root: Path) -> Path:
    """Copy the package, without what no step of a page needs."""
    root.mkdir()
    for name in ROOMS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "bundles.tar.xz"))
    for name in ("__init__.py", "quickstart.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.mark.parametrize("page", PAGES)
def test_the_page_fits_the_code(page, tmp_path):
    """Only the files that it names, so that this is quick."""
    named = {name for _, how, name, _ in steps(page) if how != "in"}
    assert len(named) >= 5
    for name in named:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / name)
    follow(page, tmp_path)
    for name in named:
        if name.endswith(".py"):
            compile((tmp_path / name).read_text(), name, "exec")
    if ruff := shutil.which("ruff", path=str(Path(sys.executable).parent)):
        shutil.copy(ROOT / "pyproject.toml", tmp_path)  # its rules for tests/ go by the place of the file
        done = subprocess.run([ruff, "check", "-q"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_step_that_no_longer_fits_is_seen():
    with pytest.raises(AssertionError, match="0 times"):
        edited("a\nb\n", " c\n+d\n", "file")
    assert edited("a\nb\nc\n", " a\n-b\n+d\n", "file") == "a\nd\nc\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_the_page_leads_to_a_bundle(page, tmp_path):
    """Every command of the page, in the copy; the package is then the copy's, and says so."""
    root = copy(tmp_path / "vlseg")
    follow(page, root)
    write_dataset(root / "clinic", 8, 4, 5, size=40, style="clinic", seed=7)
    own = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    where = [sys.executable, "-c", "import vlseg; print(vlseg.__file__)"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | own
    told = subprocess.run(where, cwd=root, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(told.strip()).parent == root
    (commands,) = [text for language, how, _, text in steps(page) if (language, how) == ("sh", "in")]
    for line in commands.splitlines():
        words = shlex.split(line)
        more = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        python = {
            "python": [sys.executable],
            "vlseg": [sys.executable, "-c", "from vlseg.cli.door import main; main()"],
        }
        done = subprocess.run(
            [*python[words[0]], *words[1:]], cwd=root, env=environment | more, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if "evaluate" in words:
            assert "Dice" in done.stdout
        if "pytest" in words:
            assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout
