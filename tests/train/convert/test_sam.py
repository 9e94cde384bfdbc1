"""SAM's release, by its own names and shapes, as the library's model."""

import pytest
import torch
from torch import nn
from transformers import SamModel

from vlseg.train.convert.convert import convert
from vlseg.train.convert.kinds import expected_of, kind_of, sam_config
from vlseg.train.convert.sam import sam_names
from vlseg.train.models.names import check_names

META = torch.device("meta")


def names(model, prefix=""):
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def attention(place, width, inner):
    state = {}
    for name in ("q_proj", "k_proj", "v_proj"):
        state |= names(nn.Linear(width, inner), f"{place}{name}.")
    return state | names(nn.Linear(inner, width), f"{place}out_proj.")


def mlp(state, place, inner, hidden, outer):
    for i, (a, b) in enumerate(((inner, hidden), (hidden, hidden), (hidden, outer))):
        state |= names(nn.Linear(a, b), f"{place}.layers.{i}.")
    return state


def released_sam(config):
    """Return the names of SAM's release, filled at random, at the widths of `config`."""
    v, p, m = config.vision_config, config.prompt_encoder_config, config.mask_decoder_config
    grid, head, d = v.image_size // v.patch_size, v.hidden_size // v.num_attention_heads, m.hidden_size
    state = {"image_encoder.pos_embed": torch.randn(1, grid, grid, v.hidden_size)}
    state |= names(nn.Conv2d(3, v.hidden_size, v.patch_size, v.patch_size), "image_encoder.patch_embed.proj.")
    for k in range(v.num_hidden_layers):
        place = f"image_encoder.blocks.{k}."
        reach = 2 * (grid if k in v.global_attn_indexes else v.window_size) - 1
        state |= {f"{place}attn.rel_pos_{axis}": torch.randn(reach, head) for axis in "hw"}
        state |= names(nn.LayerNorm(v.hidden_size), f"{place}norm1.") | names(
            nn.LayerNorm(v.hidden_size), f"{place}norm2."
        )
        state |= names(nn.Linear(v.hidden_size, 3 * v.hidden_size), f"{place}attn.qkv.")
        state |= names(nn.Linear(v.hidden_size, v.hidden_size), f"{place}attn.proj.")
        state |= names(nn.Linear(v.hidden_size, v.mlp_dim), f"{place}mlp.lin1.")
        state |= names(nn.Linear(v.mlp_dim, v.hidden_size), f"{place}mlp.lin2.")
    state |= names(nn.Conv2d(v.hidden_size, v.output_channels, 1, bias=False), "image_encoder.neck.0.")
    state |= names(nn.Conv2d(v.output_channels, v.output_channels, 3, bias=False), "image_encoder.neck.2.")
    for i in (1, 3):
        state |= names(nn.LayerNorm(v.output_channels), f"image_encoder.neck.{i}.")
    state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = torch.randn(2, v.num_pos_feats)
    for name in ("point_embeddings.0", "point_embeddings.1", "point_embeddings.2", "point_embeddings.3"):
        state |= names(nn.Embedding(1, d), f"prompt_encoder.{name}.")
    for name in ("not_a_point_embed", "no_mask_embed"):
        state |= names(nn.Embedding(1, d), f"prompt_encoder.{name}.")
    c = p.mask_input_channels
    parts = {0: nn.Conv2d(1, c // 4, 2), 1: nn.LayerNorm(c // 4), 3: nn.Conv2d(c // 4, c, 2), 4: nn.LayerNorm(c)}
    for i, part in (parts | {6: nn.Conv2d(c, d, 1)}).items():
        state |= names(part, f"prompt_encoder.mask_downscaling.{i}.")
    state |= names(nn.Embedding(1, d), "mask_decoder.iou_token.") | names(
        nn.Embedding(4, d), "mask_decoder.mask_tokens."
    )
    crossing = ("cross_attn_token_to_image", "cross_attn_image_to_token")
    for k in range(m.num_hidden_layers):
        place = f"mask_decoder.transformer.layers.{k}."
        for name, inner in (("self_attn", d), *((name, d // 2) for name in crossing)):
            state |= attention(f"{place}{name}.", d, inner)
        for i in range(1, 5):
            state |= names(nn.LayerNorm(d), f"{place}norm{i}.")
        state |= names(nn.Linear(d, m.mlp_dim), f"{place}mlp.lin1.") | names(
            nn.Linear(m.mlp_dim, d), f"{place}mlp.lin2."
        )
    state |= attention("mask_decoder.transformer.final_attn_token_to_image.", d, d // 2)
    state |= names(nn.LayerNorm(d), "mask_decoder.transformer.norm_final_attn.")
    up = {0: nn.ConvTranspose2d(d, d // 4, 2), 1: nn.LayerNorm(d // 4), 3: nn.ConvTranspose2d(d // 4, d // 8, 2)}
    for i, part in up.items():
        state |= names(part, f"mask_decoder.output_upscaling.{i}.")
    for i in range(4):
        mlp(state, f"mask_decoder.output_hypernetworks_mlps.{i}", d, d, d // 8)
    return mlp(state, "mask_decoder.iou_prediction_head", d, m.iou_head_hidden_dim, 4)


@pytest.mark.parametrize("wrapper", [None, "model"])
def test_sam_is_the_librarys(saved, tmp_path, wrapper):
    state = released_sam(sam_config("nano"))
    path, digest = saved(state if wrapper is None else {wrapper: state, "epoch": 3})
    report = convert(path, digest, tmp_path / "sam", size="nano")
    library = SamModel.from_pretrained(tmp_path / "sam", local_files_only=True)
    assert report["kind"] == "SAM"
    pairs = {
        "vision_encoder.layers.1.layer_norm2.weight": "image_encoder.blocks.1.norm2.weight",
        "vision_encoder.neck.conv2.weight": "image_encoder.neck.2.weight",
        "mask_decoder.output_hypernetworks_mlps.2.proj_out.bias": (
            "mask_decoder.output_hypernetworks_mlps.2.layers.2.bias"
        ),
        "mask_decoder.iou_prediction_head.layers.0.weight": "mask_decoder.iou_prediction_head.layers.1.weight",
        "shared_image_embedding.positional_embedding": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(library.state_dict()[ours], state[theirs])


def test_full_size_names_of_sam():
    with META:
        state = released_sam(sam_config("base"))
    assert state["image_encoder.blocks.2.attn.rel_pos_h"].shape == (127, 64)
    assert state["image_encoder.blocks.0.attn.rel_pos_h"].shape == (27, 64)
    check_names(sam_names(state), expected_of(kind_of(state, "x"), "base"), "x")
