"""Ahead-of-time compile and the resource gate, on three architectures here and on all in `make test-all`."""

import json
import re

import pytest

pytest.importorskip("triton")

from vlseg.kernels import check, variants
from vlseg.kernels import compile as ahead


def few():
    """One plugin of each kind: an adapter, a wide normed MLP, the closed fusion, the pass of the pooling."""
    pooling = variants.pooling_variants("fp16")
    return [
        variants.bottleneck_variant("fp16", 768, 64, tokens=485),
        variants.bottleneck_variant("fp16", 768, 192, normed=True),
        variants.closed_variant("fp16"),
        pooling[1],
    ]


def test_the_gate_on_three_architectures():
    rows = check.check((87, 90, 120), few())
    assert len(rows) == 12
    for row in rows:
        assert row["passed"], row
        assert row["registers"] > 0 and row["spill_bytes"] == 0 and row["shared_bytes"] <= 48 * 1024


def test_the_gate_can_fail():
    row = {"variant": "plugin", "spill_bytes": 0, "shared_bytes": 48 * 1024}
    assert check.passes(row)
    assert not check.passes(row | {"spill_bytes": 8})
    assert not check.passes(row | {"shared_bytes": 48 * 1024 + 1})
    assert check.passes(row | {"variant": "torch", "shared_bytes": 60_000})


@pytest.mark.parametrize(("cuda", "expected"), [("12.6", "8.5"), ("13.0", "9.0"), ("13.2", "9.2")])
def test_the_instruction_set_is_chosen_for_the_driver(tmp_path, cuda, expected):
    out = tmp_path / "ptx"
    rows = ahead.compile_all(87, out, ahead.PTX_VERSIONS[cuda], variants=few()[:1], cubin=True)
    text = (out / rows[0]["ptx"]).read_text()
    assert re.search(r"\.version (\S+)", text).group(1) == expected
    assert (out / rows[0]["cubin"]).stat().st_size > 0
    assert json.loads((out / "kernels.json").read_text()) == rows


def test_a_plugin_declares_its_arguments_and_nothing_else(tmp_path):
    (row,) = ahead.compile_all(87, tmp_path / "ptx", variants=few()[:1])
    text = (tmp_path / "ptx" / row["ptx"]).read_text()
    declared = re.search(rf"\.entry {row['entry']}\((.*?)\n\)", text, re.DOTALL).group(1).count(".param")
    assert declared == len(row["arguments"]) == 7
    names = [argument["name"] for argument in row["arguments"]]
    assert names == ["x_ptr", "down_ptr", "down_bias_ptr", "up_ptr", "up_bias_ptr", "tokens", "y_ptr"]
    assert row["block_x"] % 32 == 0 and row["shared_bytes"] <= 48 * 1024


def test_the_folder_is_replaced_whole_and_a_foreign_one_is_left_alone(tmp_path):
    out = tmp_path / "ptx"
    ahead.compile_all(87, out, variants=few()[:1])
    ahead.compile_all(87, out, variants=few()[:1])
    assert len(list(out.iterdir())) == 2 and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"holds no kernels.json"):
        ahead.compile_all(87, tmp_path / "mine", variants=few()[:1])


def test_unknown_architectures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="arch is 75: expected one of 80"):
        ahead.compile_all(75, tmp_path / "ptx")
    with pytest.raises(ValueError, match="arch is 99"):
        check.check([99])


def test_hidden_parameters_in_use_are_not_stripped():
    ptx = ".visible .entry k(\n\t.param .u64 k_param_0,\n\t.param .u64 k_param_1\n)\n{ ld.param.u64 %r, [k_param_1]; }"
    with pytest.raises(ValueError, match="scratch memory"):
        ahead.strip_hidden(ptx, "k", 1)
    with pytest.raises(ValueError, match="no entry 'j'"):
        ahead.strip_hidden(ptx, "j", 1)


@pytest.mark.soak  # several seconds for each of some 400 variants
@pytest.mark.parametrize("arch", variants.ARCHITECTURES)
def test_every_variant_within_the_gate(arch):
    rows = check.check([arch], [*variants.plugin_variants(), *variants.torch_variants(("fp16", "fp32"))])
    assert [row for row in rows if not row["passed"]] == []
