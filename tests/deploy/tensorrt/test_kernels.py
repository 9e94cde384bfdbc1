import json

import pytest

from vlseg.deploy.errors import BundleError, EngineError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.tensorrt import plugins, remedies
from vlseg.deploy.tensorrt.kernels import INDEX, evaluate, read_kernels
from vlseg.deploy.tensorrt.plans import Here

from .fake_trt import FakeTensorRT

ROW = {
    "node": "BottleneckReluRelu", "arch": 87, "tactic": 1, "dtype": "fp16", "sizes": {"x": [None, 32], "up": [32, 4]},
    "arguments": [
        *({"name": f"{name}_ptr", "type": "*fp16"} for name in ("x", "down", "down_bias", "up", "up_bias")),
        {"name": "tokens", "type": "i32"},
        {"name": "y_ptr", "type": "*fp16"},
    ],
    "outputs": ["x"], "symbols": {"tokens": ["x", 0], "batch": 1}, "constants": {"ROWS": 16}, "block_x": 128,
    "grid": ["cdiv(tokens, ROWS)", "batch", "1"], "shared_bytes": 0, "entry": "k", "ptx": "ptx/sm_87/k.ptx",
}  # fmt: skip


def with_rows(bundle, rows):
    (bundle / "ptx" / "sm_87").mkdir(parents=True, exist_ok=True)
    (bundle / "ptx" / "sm_87" / "k.ptx").write_text(".visible .entry k(\n)")
    (bundle / INDEX).write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return Manifest.load(bundle).save(bundle)


def test_a_kernel_is_read_with_its_arguments_apart(toy_bundle):
    (kernel,) = read_kernels(toy_bundle, with_rows(toy_bundle, [ROW, {**ROW, "arch": 110}]), 87)
    assert kernel.inputs == ("x", "down", "down_bias", "up", "up_bias") and kernel.integers == ("tokens",)
    assert kernel.fits({"x": [7, 32], "up": [32, 4]}) and kernel.fits({"x": [None, None], "up": [32, 4]})
    assert not kernel.fits({"x": [7, 32], "up": [32, 8]}) and not kernel.fits({"x": [1, 7, 32], "up": [32, 4]})


def test_a_bundle_without_kernels(toy_bundle):
    assert read_kernels(toy_bundle, Manifest.load(toy_bundle), 87) == []


@pytest.mark.parametrize(
    "rows",
    [
        "nonsense",
        [{"arch": 87}],
        {"arch": 87},
        [{**ROW, "ptx": "../elsewhere.ptx"}],
        [{**ROW, "ptx": "ptx/sm_87/absent.ptx"}],
        [{**ROW, "arguments": [*ROW["arguments"][5:], *ROW["arguments"][:5]]}],
    ],
)
def test_a_damaged_list_is_named(toy_bundle, rows):
    with pytest.raises(BundleError, match=r"kernels.json is damaged .*: export the bundle again"):
        read_kernels(toy_bundle, with_rows(toy_bundle, rows), 87)


def test_a_grid_is_arithmetic_and_nothing_else():
    def cdiv(a, b):
        return -(-a // b)

    values = {"tokens": 97, "ROWS": 16, "HEADS": 3}
    assert evaluate("cdiv(tokens, ROWS)", values, cdiv) == 7 and evaluate("HEADS * tokens", values, cdiv) == 291
    for text in ("__import__('os')", "tokens + 1", "tokens.real", "unknown", "cdiv(tokens)", "1.5", "[1]"):
        with pytest.raises(ValueError, match="is no part of a grid"):
            evaluate(text, values, cdiv)


def test_an_old_tensorrt_takes_no_plugins(gpu):
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 takes no ahead-of-time plugins, 10\.9 and later do"):
        plugins.register(FakeTensorRT("10.3.0", gpu), [])


def test_a_remedy_keeps_what_the_user_has_set(monkeypatch):
    monkeypatch.setenv("__LUNOWUD", "-mine=1")
    thor = Here("Thor", 110, "10.13.3.9")
    assert len(remedies.apply(thor, (10, 13, 3, 9))) == 1
    assert remedies.os.environ["__LUNOWUD"] == "-mine=1 -peep:fc_h_fusion=off"
    remedies.apply(thor, (10, 13, 3, 9))
    assert remedies.os.environ["__LUNOWUD"] == "-mine=1 -peep:fc_h_fusion=off", "once is enough"
    assert "static shapes" in remedies.apply(Here("H100", 90, "11.1.0"), (11, 1, 0))[0]
    assert remedies.apply(Here("H100", 90, "11.4.1"), (11, 4, 1)) == []
