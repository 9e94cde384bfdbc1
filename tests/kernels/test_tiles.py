import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from vlseg.kernels import tiles, timing
from vlseg.kernels.tiles import Tile


def test_the_forced_tile_is_taken_and_given_back():
    cpu = torch.device("cpu")
    default = tiles.choose("bottleneck_forward", cpu, torch.float16, 64, 485)
    with tiles.forced(Tile(16, 16, 4, 1)), tiles.forced(Tile(32, 16, 4, 1)):
        assert tiles.choose("pool", cpu, torch.float16, 64, 485) == Tile(32, 16, 4, 1)
    assert tiles.choose("bottleneck_forward", cpu, torch.float16, 64, 485) == default


def test_tuned_tiles_are_kept_by_architecture(monkeypatch, tmp_path):
    monkeypatch.setenv("VLSEG_CACHE", str(tmp_path))
    tiles.tuned_tiles.cache_clear()
    key = tiles.shape_key("bottleneck_forward", torch.float16, 48, 485)
    assert key == "bottleneck_forward/float16/64/512"
    tiles.keep_tuned("sm_90", {key: Tile(64, 64, 8, 3)})
    tiles.keep_tuned("sm_90", {"other": Tile(16, 16, 4, 1)})
    assert tiles.tuned_tiles("sm_90")[key] == Tile(64, 64, 8, 3) and len(tiles.tuned_tiles("sm_90")) == 2
    assert tiles.tuned_tiles("sm_87") == {}
    tiles.tuned_tiles.cache_clear()


@pytest.mark.parametrize(("kernel", "shares"), [("bottleneck_forward", 3), ("closed_forward", 3), ("pool", 1)])
def test_candidates_hold_the_default(kernel, shares):
    default = tiles.DEFAULTS[kernel](torch.float16, 64, 485)
    found = tiles.candidates(kernel, default)
    assert default in found and len(set(found)) == len(found)
    assert len({tile.shares for tile in found}) >= shares and len({tile.rows for tile in found}) >= 3


def test_a_tile_is_forced_for_one_kernel_alone():
    cpu = torch.device("cpu")
    free = tiles.choose("pool", cpu, torch.float16, 1, 485)
    with tiles.forced(Tile(32, 16, 4, 1), "attend"):
        assert tiles.choose("attend", cpu, torch.float16, 64, 485) == Tile(32, 16, 4, 1)
        assert tiles.choose("pool", cpu, torch.float16, 1, 485) == free


def test_choices_are_watched():
    cpu = torch.device("cpu")
    with tiles.watched() as choices:
        for _ in range(2):
            tiles.choose("pool", cpu, torch.float16, 1, 485, batch=2)
    key = "pool/float16/16/1024"
    assert choices == [tiles.Choice("pool", key, tiles.pool_tile(torch.float16, 16, 970))]


def test_importing_tunes_nothing(tmp_path):
    code = "import vlseg.kernels.ops, vlseg.kernels.tiles, vlseg.kernels.library"
    environment = os.environ | {"VLSEG_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_appended_under_one_header(tmp_path):
    path = tmp_path / "new" / "kernels.csv"
    timing.append_rows(path, [{"op": "a", "ms_p50": 1.5}])
    timing.append_rows(path, [{"op": "b"}])
    lines = path.read_text().splitlines()
    assert len(lines) == 3 and lines[0].split(",") == timing.FIELDS
    assert lines[1].startswith("a,") and ",1.5," in lines[1]
