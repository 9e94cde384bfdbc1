"""What is installed is known by hash, and can be listed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "deploy" / "jetson" / "files"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["requirements-py310.txt", "requirements-py312.txt"])
def test_the_bill_of_materials_of_a_jetson(name, tmp_path):
    """Every pin with its version, its place in the index and its hashes, as `make sbom` writes it."""
    tool = Path(sys.executable).with_name("cyclonedx-py")
    if not tool.exists():
        pytest.skip("cyclonedx-bom is not installed: pip install cyclonedx-bom")
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    words = [tool, "requirements", FILES / name, "--pyproject", pyproject, "-o", tmp_path / "bom.json"]
    subprocess.run(words, check=True, capture_output=True)
    bom = json.loads((tmp_path / "bom.json").read_text())
    found = {one["name"]: one for one in bom["components"]}
    pins = dict(line.split()[0].split("==") for line in (FILES / name).read_text().splitlines() if "==" in line)
    assert bom["bomFormat"] == "CycloneDX" and {n: one["version"] for n, one in found.items()} == pins
    for one in found.values():
        assert one["purl"].startswith("pkg:pypi/")
        assert any(place.get("hashes") for place in one["externalReferences"]), one["name"]
