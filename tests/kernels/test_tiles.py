import torch

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


def test_candidates_hold_the_default():
    default = tiles.forward_tile(torch.float16, 64, 485)
    found = tiles.candidates(default)
    assert default in found and len(set(found)) == len(found) > 10


def test_rows_are_appended_under_one_header(tmp_path):
    path = tmp_path / "new" / "kernels.csv"
    timing.append_rows(path, [{"op": "a", "ms_p50": 1.5}])
    timing.append_rows(path, [{"op": "b"}])
    lines = path.read_text().splitlines()
    assert len(lines) == 3 and lines[0].split(",") == timing.FIELDS
    assert lines[1].startswith("a,") and ",1.5," in lines[1]
