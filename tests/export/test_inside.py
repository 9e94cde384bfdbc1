import pytest

from vlseg.export import inside
from vlseg.export.tax import Bench, Setting


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    pytest.importorskip("openvino", reason="the yardstick OpenVINO is not installed")
    bench = Bench(Setting(size="nano"), tmp_path_factory.mktemp("bench"))
    return inside.by_kind(bench.folders["adapted"] / "image.onnx", bench.pixels, threads=1, turns=3)


def test_both_engines_tell_every_kind_and_their_sum(taken):
    for kinds in taken.values():
        parts = [sum(kinds[kind][turn] for kind in kinds if kind != "whole") for turn in range(3)]
        assert parts == pytest.approx(kinds["whole"])
        assert all(kinds[kind][0] > 0 for kind in ("attention", "mlp", "adapters", "whole"))


def test_a_row_for_each_kind(taken):
    rows = {row["kind"]: row for row in inside.compared(Setting(size="nano"), taken)}
    assert rows["whole"]["low"] <= rows["whole"]["ratio"] <= rows["whole"]["high"]
    assert rows["whole"]["onnxruntime_ms"] == sorted(taken["onnxruntime"]["whole"])[1]


def test_a_kind_that_one_engine_does_not_tell_has_no_ratio():
    taken = {"onnxruntime": {"norms": [1.0, 2.0, 3.0]}, "openvino": {"norms": [0.0, 0.0, 0.0]}}
    (row,) = inside.compared(Setting(size="nano"), taken)
    assert (row["ratio"], row["onnxruntime_ms"], row["openvino_ms"]) == ("", 2.0, 0.0)
