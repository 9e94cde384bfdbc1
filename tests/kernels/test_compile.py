"""Ahead-of-time compile and the resource gate: few variants on three architectures, and all on all where it is slow."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("triton")

import triton

from vlseg.kernels import check, sites, variants
from vlseg.kernels import compile as ahead


def few():
    """Plugins of several kinds: an adapter, a wide normed MLP, the closed fusion, the pooling's pass, an attention."""
    return [
        variants.bottleneck_variant("fp16", 768, 64, tokens=485),
        variants.bottleneck_variant("fp16", 768, 192, normed=True),
        variants.closed_variant("fp16"),
        variants.pooling_variants("fp16")[1],
        variants.attend_variants("fp16")[0],
    ]


def test_the_gate_on_three_architectures():
    told = []
    rows = check.check((87, 90, 120), few(), lambda *progress: told.append(progress))
    assert len(rows) == 15 and [row["arch"] for row in rows] == [87] * 5 + [90] * 5 + [120] * 5
    assert told == [(done, 15) for done in range(1, 16)]
    for row in rows:
        assert row["passed"], row
        assert row["registers"] > 0 and row["spill_bytes"] == 0 and row["shared_bytes"] <= 48 * 1024


def test_torch_variants_are_asked_for_where_models_are_trained():
    plugin, torch = sites.plugin_variants()[0], sites.torch_variants()[0]
    found = check.tasks(variants.ARCHITECTURES, [plugin, torch])
    assert [task.archs for task in found if task.variant == plugin] == list(check.FAMILIES)
    assert [task.archs for task in found if task.variant == torch] == [(80,), (89,), (90,)]


def test_every_operator_and_kernel_has_its_variants():
    plugins, torch = sites.plugin_variants(), sites.torch_variants()
    for found in (plugins, torch):
        assert len({variant.name for variant in found}) == len(found) == len(variants.distinct(found))
    assert {variant.dtype for variant in plugins} == {"fp16", "fp32"}
    assert {variant.dtype for variant in torch} == {"fp16", "bf16", "fp32"}
    assert {variant.kernel for variant in torch} == set(variants.KERNELS)
    assert {variant.kernel for variant in plugins} == {
        kernel for kernel in variants.KERNELS if "backward" not in kernel
    }
    assert {variant.kernel for variant in plugins} == set(ahead.GRIDS)


def test_a_plugin_has_one_integer_argument_at_most_and_no_float():
    for variant in sites.plugin_variants():
        kinds = [kind for kind in variant.arguments.values() if not kind.startswith("*")]
        assert kinds in ([], ["i32"]), variant.name
        absent = [name for name, value in variant.bound().items() if value is None]
        assert all(name.endswith("_ptr") for name in absent), (variant.name, absent)


@pytest.mark.slow
def test_a_family_shares_its_ptx():
    for variant in few():
        texts = set()
        for arch in (86, 87, 89):
            ptx = re.sub(r"\.target \w+|//.*", "", ahead.compile_variant(variant, arch).ptx)
            texts.add("\n".join(line for line in ptx.splitlines() if not line.strip().startswith((".loc", ".file"))))
        assert len(texts) == 1, variant.name


def test_the_gate_can_fail():
    row = {"variant": "plugin", "spill_bytes": 0, "shared_bytes": 48 * 1024}
    assert check.passes(row)
    assert not check.passes(row | {"spill_bytes": 8})
    assert not check.passes(row | {"shared_bytes": 48 * 1024 + 1})
    assert check.passes(row | {"variant": "torch", "shared_bytes": 60_000})


def test_the_default_instruction_set_is_the_oldest_in_use():
    assert {arch: ahead.default_ptx_version(arch) for arch in (80, 87, 90, 100, 110, 120)} == {
        **dict.fromkeys((80, 87, 90), 85),
        **dict.fromkeys((100, 110, 120), 90),
    }


@pytest.mark.parametrize(("arch", "version", "known"), [(87, 84, "85, 90, 92"), (120, 85, "90, 92")])
def test_unknown_instruction_sets_are_refused(tmp_path, arch, version, known):
    with pytest.raises(ValueError, match=rf"the PTX version is {version}: expected one of {known} for sm_{arch}"):
        ahead.compile_all(arch, tmp_path / "ptx", version, variants=few()[:1])
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.slow  # about a second of each core for two of some 770 compiles
def test_every_variant_on_every_architecture_is_within_the_gate(tmp_path):
    rows = check.check()
    plugins, torch = len(sites.plugin_variants()), len(sites.torch_variants())
    assert len(rows) == plugins * len(variants.ARCHITECTURES) + torch * len(variants.TORCH_ARCHITECTURES)
    assert [row for row in rows if not row["passed"]] == []
    check.write_condensed(rows, tmp_path / "resources.csv")
    kept = (Path(check.__file__).parent / "resources.csv").read_text()
    if kept.splitlines()[-1].endswith(f",{triton.__version__}"):
        assert (tmp_path / "resources.csv").read_text() == kept, "the tiles changed: write kernels/resources.csv again"
