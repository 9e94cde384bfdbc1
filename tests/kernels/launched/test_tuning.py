"""The search for tiles: every kernel of a case is timed, and the best is kept for this architecture alone."""

import json

import torch

from vlseg.kernels import cases, gpu, tiles


def test_the_best_tile_of_every_kernel_is_kept(monkeypatch, tmp_path, device):
    monkeypatch.setenv("VLSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(
        tiles, "candidates", lambda kernel, default: [tiles.Tile(16, 16, 4, 1), tiles.Tile(32, 16, 4, 1)]
    )
    tiles.tuned_tiles.cache_clear()
    case = cases.bottleneck_case(cases.Place(device, torch.float32), 1, 19, 24, 6)
    found = gpu.tune(case, torch.device(device))
    kernels = ("bottleneck_forward", "bottleneck_backward_rows", "bottleneck_backward_columns")
    assert sorted(found) == sorted(f"{kernel}/float32/16/32" for kernel in kernels)
    (file,) = tmp_path.iterdir()
    assert file.name == f"tiles-{tiles.architecture(torch.device(device))}.json"
    assert json.loads(file.read_text()).keys() == found.keys()
    with monkeypatch.context() as patch:
        patch.setattr(tiles, "_forced", [])
        assert tiles.choose("bottleneck_forward", torch.device(device), torch.float32, 6, 19) == found[sorted(found)[2]]
    tiles.tuned_tiles.cache_clear()


def test_a_tile_that_does_not_fit_is_passed_over(monkeypatch, tmp_path, device):
    monkeypatch.setenv("VLSEG_CACHE", str(tmp_path))
    good, bad = tiles.Tile(16, 16, 4, 1), tiles.Tile(64, 64, 4, 1)
    monkeypatch.setattr(tiles, "candidates", lambda kernel, default: [good, bad])
    timed = gpu.timing.timed

    def too_large(call, *rest, **options):
        if tiles._forced[-1][1] == bad:
            raise RuntimeError("out of shared memory")
        return timed(call, *rest, **options)

    monkeypatch.setattr(gpu.timing, "timed", too_large)
    case = cases.bottleneck_case(cases.Place(device, torch.float32), 1, 5, 8, 4)
    assert set(gpu.tune(case, torch.device(device)).values()) == {good}
    tiles.tuned_tiles.cache_clear()
