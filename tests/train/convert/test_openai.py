"""OpenAI's CLIP (ViT) and CLIPSeg's release, by their own names and shapes, as the library's models."""

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPSegForImageSegmentation

from vlseg.deploy.errors import UserError
from vlseg.train.convert.convert import convert
from vlseg.train.convert.kinds import expected_of, kind_of
from vlseg.train.convert.openai import clip_names, clipseg_names
from vlseg.train.models.cris.backbone import ClipBackbone
from vlseg.train.models.cris.sizes import CRIS_SIZES
from vlseg.train.models.methods import build_model
from vlseg.train.models.names import check_names
from vlseg.train.models.san.sizes import config_of as clip_config
from vlseg.train.models.sizes import config_of as clipseg_config

META = torch.device("meta")


def names(model, prefix=""):
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def openai_vit(config, prefix=""):
    """Return the names of OpenAI's CLIP with an image transformer, filled at random, at the widths of `config`."""
    text, vision = config.text_config, config.vision_config
    grid = vision.image_size // vision.patch_size
    state = {"logit_scale": torch.tensor(4.6), "text_projection": torch.randn(text.hidden_size, config.projection_dim)}
    state |= {
        "token_embedding.weight": torch.randn(text.vocab_size, text.hidden_size),
        "positional_embedding": torch.randn(text.max_position_embeddings, text.hidden_size),
        "visual.class_embedding": torch.randn(vision.hidden_size),
        "visual.positional_embedding": torch.randn(1 + grid**2, vision.hidden_size),
        "visual.conv1.weight": torch.randn(vision.hidden_size, 3, vision.patch_size, vision.patch_size),
        "visual.proj": torch.randn(vision.hidden_size, config.projection_dim),
    }
    for name, width in (("ln_final", text), ("visual.ln_pre", vision), ("visual.ln_post", vision)):
        state |= names(nn.LayerNorm(width.hidden_size), f"{name}.")
    for tower, sizes in (("", text), ("visual.", vision)):
        for k in range(sizes.num_hidden_layers):
            place, width, inner = f"{tower}transformer.resblocks.{k}.", sizes.hidden_size, sizes.intermediate_size
            state |= names(nn.MultiheadAttention(width, 2), f"{place}attn.")
            state |= names(nn.LayerNorm(width), f"{place}ln_1.") | names(nn.LayerNorm(width), f"{place}ln_2.")
            state |= names(nn.Linear(width, inner), f"{place}mlp.c_fc.")
            state |= names(nn.Linear(inner, width), f"{place}mlp.c_proj.")
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def clipseg_decoder(config):
    """Return CLIPSeg's release: the decoder alone, under the names of its own code."""
    r, vision = config.reduce_dim, config.vision_config
    state = names(nn.Linear(config.projection_dim, r), "film_mul.")
    state |= names(nn.Linear(config.projection_dim, r), "film_add.") | names(
        nn.Linear(vision.hidden_size, r), "reduce."
    )
    state |= names(nn.ConvTranspose2d(r, 1, vision.patch_size, vision.patch_size), "trans_conv.")
    for i in range(len(config.extract_layers)):
        state |= names(nn.Linear(vision.hidden_size, r), f"reduces.{i}.")
        layer = nn.TransformerEncoderLayer(r, config.decoder_num_attention_heads, config.decoder_intermediate_size)
        for p in layer.parameters():
            nn.init.normal_(p, std=0.2)
        state |= names(layer, f"blocks.{i}.")
    return state


def test_openai_vit_is_taken_by_the_library_and_by_a_side_adapter(saved, tokenizer, tmp_path):
    path, digest = saved(openai_vit(clip_config("nano")))
    convert(path, digest, tmp_path / "vit", size="nano", tokenizer=tokenizer)
    library = CLIPModel.from_pretrained(tmp_path / "vit", local_files_only=True)
    model = build_model("san/adapter", "nano", weights=str(tmp_path / "vit"))
    assert torch.equal(model.library.text_projection.weight, library.text_projection.weight)


def test_the_librarys_text_tower_gives_openais_sentences():
    """The text transformers of OpenAI's two archives are one, and CRIS's is under its own names."""
    nano = CRIS_SIZES["nano"]
    narrow = {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 4}
    config = CLIPConfig(
        text_config=narrow | {"vocab_size": nano.vocabulary, "eos_token_id": 2, "bos_token_id": 1},
        vision_config=narrow | {"image_size": 32, "patch_size": 8},
        projection_dim=nano.embed,
    )
    ours, library = ClipBackbone(nano, 77).eval(), CLIPModel(config).eval()
    for p in ours.parameters():
        nn.init.normal_(p, std=0.1)
    text = {name: tensor for name, tensor in ours.state_dict().items() if not name.startswith("visual.")}
    left = library.load_state_dict(clip_names(text), strict=False)
    assert not left.unexpected_keys and not any("text" in name for name in left.missing_keys)
    ids = torch.tensor([[1022, 5, 6, 1023], [1022, 9, 1023, 1023]])
    out = library.text_model(ids, attention_mask=torch.ones_like(ids))
    words, sentence = ours.words(ids)
    torch.testing.assert_close(library.text_projection(out.pooler_output), sentence, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.last_hidden_state, words, rtol=1e-4, atol=1e-4)


def test_clipseg_with_its_clip_is_the_librarys(saved, tokenizer, tmp_path):
    config = clipseg_config("nano")
    decoder, vit = clipseg_decoder(config), openai_vit(config)
    first, second = saved(decoder, "rd64-uni.pth"), saved(vit, "ViT-B-16.pt")
    with pytest.raises(UserError, match=r"decoder alone.*--clip"):
        convert(*first, tmp_path / "alone", size="nano", tokenizer=tokenizer)
    assert not (tmp_path / "alone").exists()
    convert(*first, tmp_path / "whole", size="nano", clip=second, tokenizer=tokenizer)
    model = build_model("clipseg/frozen", "nano", weights=str(tmp_path / "whole"))
    ids, mask = (torch.from_numpy(part) for part in model.tokenizer(["a red polyp"]))
    assert model(torch.randn(1, 3, 32, 32), ids, mask).shape == (1, 1, 32, 32)
    tokens = torch.randn(2, 5, config.reduce_dim)
    layer = nn.TransformerEncoderLayer(
        config.reduce_dim, config.decoder_num_attention_heads, config.decoder_intermediate_size, batch_first=True
    ).eval()
    layer.load_state_dict({k.removeprefix("blocks.1."): t for k, t in decoder.items() if k.startswith("blocks.1.")})
    theirs = model.library.decoder.layers[1](tokens, attention_mask=None)
    torch.testing.assert_close(theirs, layer(tokens))


@pytest.mark.parametrize("size", ["base", "rd64"])
def test_full_size_names_of_clipseg(size):
    with META:
        config = clipseg_config(size)
        state = openai_vit(config, "clip_model.") | clipseg_decoder(config)
        if size == "base":
            refined = {0: nn.Conv2d(64, 64, 3), 2: nn.ConvTranspose2d(64, 32, 4), 4: nn.ConvTranspose2d(32, 1, 4)}
            state = {name: t for name, t in state.items() if not name.startswith("trans_conv.")}
            for i, part in refined.items():
                state |= names(part, f"trans_conv.{i}.")
        kind = kind_of(state, "x")
        check_names(clipseg_names(state), expected_of(kind, size), "x")


def test_the_librarys_own_bin_is_taken_as_it_is(saved, tokenizer, tmp_path):
    library = CLIPSegForImageSegmentation(clipseg_config("nano"))
    positions = {"clip.text_model.embeddings.position_ids": torch.arange(77)[None]}
    path, digest = saved(library.state_dict() | positions, "pytorch_model.bin")
    convert(path, digest, tmp_path / "seg", size="nano", tokenizer=tokenizer)
    model = build_model("clipseg/frozen", "nano", weights=str(tmp_path / "seg"))
    assert torch.equal(model.library.decoder.film_mul.weight, library.decoder.film_mul.weight)


def test_full_size_names_of_openai_vit():
    with META:
        state = openai_vit(clip_config("base"))
    check_names(clip_names(state), expected_of(kind_of(state, "x"), "base"), "x")
