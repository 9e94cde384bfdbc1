"""SAM's parts against the library's whole, and the sizes it comes in."""

import pytest
import torch
from transformers import SamModel

from vlseg.deploy.errors import UserError
from vlseg.train.models.methods import build_model, count
from vlseg.train.models.sam.sizes import sam_config
from vlseg.train.models.sam.weights import load_sam


def given(model, *texts):
    side = model.image_size
    texts = texts or ("a red polyp", "one small lesion on the left")
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(list(texts)))
    return torch.randn(len(texts), 3, side, side), ids, mask


@pytest.fixture(scope="module")
def pair():
    """Our SAM and the library's with the same random weights, positions included, in float64."""
    torch.manual_seed(0)
    whole = SamModel(sam_config("nano")).eval()
    for name, parameter in whole.named_parameters():
        if "pos_embed" in name or "rel_pos" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    ours = build_model("sam/frozen", "nano").double()
    missing, unexpected = ours.library.load_state_dict(whole.state_dict(), strict=False)
    assert not missing and all(name.startswith(("prompt_encoder.", "shared_image")) for name in unexpected)
    ours.positions = whole.double().get_image_wide_positional_embeddings().detach()
    return ours, whole


def test_the_parts_are_the_librarys_whole(pair):
    ours, whole = pair
    pixels, ids, mask = given(ours)
    pixels = pixels.double()
    with torch.no_grad():
        embedding = whole.get_image_embeddings(pixels)
        torch.testing.assert_close(ours.image_states(pixels), embedding, rtol=0, atol=1e-12)
        masks, _ = whole.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=whole.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=torch.zeros(()).double(),
            multimask_output=False,
        )
        expected = torch.nn.functional.interpolate(masks[:, 0], size=(64, 64), mode="bilinear", align_corners=False)
        torch.testing.assert_close(ours(pixels, ids, mask), expected, rtol=0, atol=1e-10)


def test_a_sentence_changes_nothing_without_lga(pair):
    ours, _ = pair
    pixels, ids, mask = given(ours)
    with torch.no_grad():
        assert torch.equal(ours(pixels.double(), ids, mask), ours(pixels.double(), ids.flip(0), mask))


def test_another_image_size_resizes_positions():
    model = build_model("sam/frozen", "nano", image_size=96)
    assert model.vision.pos_embed.shape == (1, 6, 6, 32) and model.positions.shape == (1, 16, 6, 6)
    assert model(*given(model)).shape == (2, 1, 96, 96)
    assert model.weights_hash == build_model("sam/frozen", "nano").weights_hash


def test_published_counts_of_sam():
    # the release keeps its 256 frequencies as a buffer, the library as a parameter
    for size, total in (("base", 93_735_472), ("vit-l", 312_342_832), ("vit-h", 641_090_608)):
        row = count("sam/decoder", size)
        assert (row["trainable"], row["total"]) == (4_058_340, total + 256) and row["cached"] == ["image", "text"]


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        ("nano", {"image_size": 60}, "multiple of the patch size 16"),
        ("nano", {"weights": "/no/such/folder"}, "no weights at"),
        ("huge", {}, "known: tiny, base"),
    ],
)
def test_bad_input(size, options, says):
    with pytest.raises(UserError, match=says):
        build_model("sam/frozen", size, **options)


def test_a_local_folder_of_another_size_is_refused(tmp_path):
    SamModel(sam_config("nano")).save_pretrained(tmp_path)
    assert load_sam("nano", str(tmp_path)).weights_hash
    with pytest.raises(UserError, match="has hidden_size 32, size tiny has 128"):
        load_sam("tiny", str(tmp_path))
