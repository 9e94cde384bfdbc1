"""Foreign checkpoints, by their own names and shapes, become folders that models load."""

import json

import pytest
import torch
from torch import nn

from vlseg.deploy.errors import UserError
from vlseg.train.convert.convert import convert
from vlseg.train.convert.kinds import KINDS, expected_of
from vlseg.train.models.cris.backbone import ClipBackbone
from vlseg.train.models.cris.cris import Cris
from vlseg.train.models.cris.sizes import CRIS_SIZES
from vlseg.train.models.methods import build_model
from vlseg.train.models.names import check_names

META = torch.device("meta")
NANO = CRIS_SIZES["nano"]


def released_cris(size="nano"):
    """Return a CRIS checkpoint as its code saves it: DataParallel, `backbone`, the temperature."""
    model = build_model("cris/frozen", size, weights="random", seed=1)
    for p in model.parameters():
        nn.init.normal_(p, std=0.05)
    state = {f"module.{name.replace('clip.', 'backbone.', 1)}": tensor for name, tensor in model.state_dict().items()}
    return model, state | {"module.backbone.logit_scale": torch.tensor(4.6)}


def openai_rn50(half=True):
    """Return CLIP RN50 as OpenAI's archive holds it: half precision, three numbers, no counts of batch norms."""
    clip = ClipBackbone(NANO, 77)
    state = {
        name: tensor.half() if half else tensor
        for name, tensor in clip.state_dict().items()
        if not name.startswith("visual.attnpool.connect.") and not name.endswith("num_batches_tracked")
    }
    numbers = {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}
    return clip, state | numbers | {"logit_scale": torch.tensor(4.6)}


def test_a_public_cris_checkpoint_gives_the_same_masks(saved, tokenizer, tmp_path):
    model, state = released_cris()
    path, digest = saved({"epoch": 50, "best_iou": 0.7, "state_dict": state})
    report = convert(path, digest, tmp_path / "cris", size="nano", tokenizer=tokenizer)
    assert report["kind"] == "CRIS" and report["sha256"] == digest
    loaded = build_model("cris/frozen", "nano", weights=str(tmp_path / "cris"))
    ids, mask = (torch.from_numpy(part) for part in model.tokenizer(["a red polyp"]))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(pixels, ids, mask), model(pixels, ids, mask))
    assert not (tmp_path / "cris" / "checkpoint.pth").exists()


@pytest.mark.parametrize("half", [True, False])
def test_clip_rn50_becomes_the_backbone_of_a_new_cris(saved, tokenizer, tmp_path, half):
    clip, state = openai_rn50(half)
    path, digest = saved(state)
    convert(path, digest, tmp_path / "clip", size="nano", tokenizer=tokenizer)
    model = build_model("cris/full", "nano", weights=str(tmp_path / "clip"))
    again = build_model("cris/full", "nano", weights=str(tmp_path / "clip"))
    for name, tensor in clip.state_dict().items():
        if "attnpool.connect" not in name:
            torch.testing.assert_close(model.clip.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert model.weights_hash == again.weights_hash
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_full_size_names_and_shapes_of_clip_rn50_and_cris():
    """The published names at the published widths, nothing allocated."""
    with META:
        clip = ClipBackbone(CRIS_SIZES["base"], 77).state_dict()
        whole = Cris(CRIS_SIZES["base"], build_model("cris/frozen", "nano").tokenizer, 416).state_dict()
    assert clip["visual.attnpool.positional_embedding"].shape == (50, 2048)
    assert clip["visual.layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert clip["visual.layer2.0.downsample.0.weight"].shape == (512, 256, 1, 1)
    assert clip["transformer.resblocks.11.attn.in_proj_weight"].shape == (1536, 512)
    assert clip["token_embedding.weight"].shape == (49408, 512)
    assert clip["text_projection"].shape == (512, 1024)
    released = {name.replace("clip.", "backbone.", 1): tensor for name, tensor in whole.items()}
    for name, shape in {
        "backbone.visual.attnpool.connect.0.weight": (1024, 2048, 1, 1),
        "neck.txt_proj.0.weight": (1024, 1024),
        "neck.f1_v_proj.0.weight": (1024, 1024, 1, 1),
        "neck.norm_layer.0.weight": (1024,),
        "neck.f2_cat.0.weight": (512, 1536, 1, 1),
        "neck.f3_v_proj.1.running_var": (256,),
        "neck.coordconv.0.conv1.0.weight": (512, 514, 3, 3),
        "neck.coordconv.1.0.weight": (512, 512, 3, 3),
        "decoder.layers.2.multihead_attn.in_proj_weight": (1536, 512),
        "decoder.layers.0.ffn.3.weight": (2048,),
        "decoder.layers.0.ffn.4.weight": (512, 2048),
        "decoder.norm.weight": (512,),
        "proj.vis.1.0.weight": (512, 512, 3, 3),
        "proj.vis.3.0.weight": (256, 512, 3, 3),
        "proj.vis.4.weight": (256, 256, 1, 1),
        "proj.txt.weight": (2305, 1024),
    }.items():
        assert released[name].shape == shape, name
    cris, rn50 = KINDS[:2]
    check_names(cris.rename(released | {"backbone.logit_scale": torch.tensor(0.0)}), expected_of(cris, "base"), "x")
    own = {name: tensor for name, tensor in clip.items() if "attnpool.connect" not in name}
    check_names(rn50.rename(own), expected_of(rn50, "base"), "x", rn50.optional)


def test_another_architecture_lists_the_first_names(saved, tokenizer, tmp_path):
    _, state = released_cris()
    state["module.neck.f2_cat.0.weight"] = torch.ones(3, 3)
    state["module.neck.more"] = torch.ones(3)
    del state["module.decoder.norm.weight"]
    with pytest.raises(UserError) as refusal:
        convert(*saved(state), tmp_path / "out", size="nano", tokenizer=tokenizer)
    for part in ("decoder.norm.weight is absent, expected (32,)", "neck.f2_cat.0.weight is (3, 3)", "no such tensor"):
        assert part in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_the_wrong_size_counts_what_differs(saved, tokenizer, tmp_path):
    _, state = released_cris()
    with pytest.raises(UserError, match=r"of another architecture.* and \d+ more"):
        convert(*saved(state), tmp_path / "out", tokenizer=tokenizer)


def test_bad_input(saved, tokenizer, tmp_path):
    _, state = released_cris()
    path, digest = saved(state)
    with pytest.raises(UserError, match="known: base, tiny, nano"):
        convert(path, digest, tmp_path / "out", size="huge", tokenizer=tokenizer)
    with pytest.raises(UserError, match="none of CRIS, CLIP RN50, SAM"):
        convert(*saved({"a": torch.ones(1)}, "other.pth"), tmp_path / "out")
    short = tmp_path / "short.json"
    short.write_text(tokenizer.read_text().replace("1023", "1019"))
    with pytest.raises(UserError, match="ends a sentence with 1019"):
        convert(path, digest, tmp_path / "out", size="nano", tokenizer=short)
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        convert(path, digest, tmp_path / "out", size="nano", tokenizer=tmp_path / "none.json")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_ours_is_replaced_on_demand_and_no_other(saved, tokenizer, tmp_path):
    _, state = released_cris()
    path, digest = saved(state)
    out = tmp_path / "out"
    convert(path, digest, out, size="nano", tokenizer=tokenizer)
    written = json.loads((out / "converted.json").read_text())
    assert written["source"] == path.name and written["sha256"] == digest
    with pytest.raises(UserError, match="exists already"):
        convert(path, digest, out, size="nano", tokenizer=tokenizer)
    convert(path, digest, out, size="nano", tokenizer=tokenizer, overwrite=True)
    with pytest.raises(UserError, match="holds weights of cris nano, expected cris base"):
        build_model("cris/full", "base", weights=str(out))
