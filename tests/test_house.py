"""The plan of the house, held against the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("kernels", "deploy", "train", "export", "demo", "cli")
MAY_IMPORT = {
    "kernels": set(),
    "deploy": set(),
    "train": {"kernels", "deploy"},
    "export": {"train.models", "kernels", "deploy"},
    "demo": {"deploy"},
    "cli": {"kernels", "deploy", "train", "export", "demo", "quickstart"},
}
HEAVY = (
    *("torch", "transformers", "monai", "lightning", "onnx", "triton", "gradio", "scipy", "matplotlib"),
    *("pydicom", "nibabel", "highdicom", "av"),
)


def sources():
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def targets(path: Path):
    """Yield the dotted names, within the package, that the relative imports of a file reach."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level]
            inside = ".".join([*base, *([node.module] if node.module else [])])
            yield from ([inside] if inside else [alias.name for alias in node.names])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down(path):
    room = path.relative_to(ROOT).parts[0]
    for target in targets(path):
        allowed = {room, *MAY_IMPORT[room]}
        within = any(target == one or target.startswith(one + ".") for one in allowed)
        assert within, f"{path.relative_to(ROOT)} imports {target}; {room} may import {sorted(allowed)}"


def test_a_file_that_imports_upward_is_seen(tmp_path):
    upward = ROOT / "deploy" / "errors.py"
    tree = "from ..train import loop"
    node = ast.parse(tree).body[0]
    assert isinstance(node, ast.ImportFrom) and node.level == 2
    parts = upward.relative_to(ROOT).with_suffix("").parts
    assert ".".join([*parts[: len(parts) - node.level], node.module or ""]) == "train"


def test_one_front_door():
    assert [p.parent for p in ROOT.rglob("__init__.py") if not {".venv", "build"} & set(p.relative_to(ROOT).parts)] == [
        ROOT
    ]


def test_the_wheel_holds_every_room():
    tomllib = pytest.importorskip("tomllib")
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = {"vlseg", *(".".join(["vlseg", *p.parent.relative_to(ROOT).parts]) for p in sources())}
    assert set(listed) == on_disk


def test_changelog_names_this_version():
    import vlseg

    assert f"## {vlseg.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_broad_except_and_no_pickle():
    for path in [*sources(), ROOT / "quickstart.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "BaseException")
                assert not broad, f"{path}:{node.lineno} catches everything"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert "pickle" not in names, f"{path}:{node.lineno} imports pickle"


def blocked(code: str) -> subprocess.CompletedProcess:
    """Run `code` in a fresh interpreter that refuses every heavy library."""
    block = f"import sys\nfor name in {HEAVY!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True)


DEPLOY = [".".join(["vlseg", *p.relative_to(ROOT).with_suffix("").parts]) for p in (ROOT / "deploy").rglob("*.py")]


def test_deploy_loads_without_torch():
    """One interpreter for all, since starting sixty takes a minute; the traceback names the module."""
    result = blocked("\n".join(f"import {module}" for module in sorted(DEPLOY)))
    assert result.returncode == 0, result.stderr
