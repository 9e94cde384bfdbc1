"""Weights from a folder: whole and of this architecture, or refused by the first names that are not."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPSegForImageSegmentation

from vlseg.deploy.errors import UserError
from vlseg.train.models.backbone import small_tokenizer
from vlseg.train.models.methods import build_model
from vlseg.train.models.san.sizes import config_of as config_of_clip
from vlseg.train.models.sizes import config_of

FILM = "decoder.film_mul.weight"


@pytest.fixture
def folder(tmp_path):
    """A CLIPSeg as the library saves it, with its tokenizer."""
    return saved(CLIPSegForImageSegmentation(config_of("nano")), tmp_path)


def saved(library, path):
    library.save_pretrained(path)
    (path / "tokenizer.json").write_text(small_tokenizer(1024).json)
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return path


def changed(folder, **tensors):
    state = load_file(folder / "model.safetensors")
    for name in [name for name, tensor in tensors.items() if tensor is None]:
        del state[name]
    state |= {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_folder_gives_its_own_weights(folder):
    model = build_model("clipseg/decoder", "nano", weights=str(folder))
    want = load_file(folder / "model.safetensors")[FILM]
    assert torch.equal(model.library.decoder.film_mul.weight, want) and model.backbone == str(folder)


def test_a_checkpoint_that_lacks_parameters_is_refused_not_drawn(folder):
    changed(folder, **{FILM: None})
    with pytest.raises(UserError, match=f"is of another architecture: {FILM} is absent$"):
        build_model("clipseg/decoder", "nano", weights=str(folder))


def test_a_checkpoint_of_other_shapes_is_refused(folder):
    changed(folder, **{FILM: torch.zeros(3, 3)})
    with pytest.raises(UserError, match=r"film_mul.weight is \(3, 3\), expected \(16, 32\)$"):
        build_model("clipseg/decoder", "nano", weights=str(folder))


def test_a_checkpoint_of_another_model_is_refused_by_its_first_names(tmp_path):
    folder = saved(CLIPModel(config_of_clip("nano")), tmp_path)
    with pytest.raises(UserError, match=r"film_add.bias is absent; .*; .* is absent, and \d+ more$"):
        build_model("clipseg/decoder", "nano", weights=str(folder))


def test_what_is_there_besides_is_left(folder):
    """The side adapter stands beside the two encoders alone."""
    model = build_model("san/adapter", "nano", weights=str(folder))
    state = load_file(folder / "model.safetensors")
    assert torch.equal(
        model.text.embeddings.token_embedding.weight, state["clip.text_model.embeddings.token_embedding.weight"]
    )
