"""The composed forward against the library's own."""

import pytest
import torch
from transformers import CLIPSegForImageSegmentation

from vlseg.train.models.backbone import load_clipseg, small_tokenizer
from vlseg.train.models.clipseg import Clipseg
from vlseg.train.models.image_vector import ImageVector
from vlseg.train.models.sizes import config_of, size_of


def library_and_ours(size, image_size=None):
    torch.manual_seed(3)
    ours = load_clipseg(size, "random", image_size).eval()
    whole = CLIPSegForImageSegmentation(config_of(size)).eval()
    whole.load_state_dict(ours.library.state_dict(), strict=False)
    return whole, ours


@pytest.mark.parametrize("image_size", [32, 40, 64])
def test_logits_equal_the_librarys(image_size):
    whole, ours = library_and_ours("nano", image_size)
    pixels = torch.randn(3, 3, image_size, image_size)
    ids, mask = (torch.from_numpy(a) for a in ours.tokenizer(["a red polyp", "", "one small round lesion on the left"]))
    with torch.no_grad():
        mine = ours(pixels, ids, mask)
        theirs = whole(input_ids=ids, pixel_values=pixels, attention_mask=mask).logits
    torch.testing.assert_close(mine[:, 0], theirs.view(3, image_size, image_size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("image_size", [32, 40])
def test_the_image_vector_is_the_librarys(image_size):
    torch.manual_seed(3)
    whole = CLIPSegForImageSegmentation(config_of("nano")).eval()
    torch.nn.init.normal_(whole.clip.vision_model.post_layernorm.weight)
    pixels = torch.randn(3, 3, image_size, image_size)
    with torch.no_grad():
        theirs = whole.clip.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
        vector = ImageVector(whole)
        states = Clipseg(whole, small_tokenizer(1024), size_of("nano"), image_size).image_states(pixels)
        torch.testing.assert_close(vector(states[:, -1]), theirs)


@pytest.mark.slow
def test_logits_equal_the_librarys_at_base_size():
    whole, ours = library_and_ours("base")
    pixels = torch.randn(2, 3, 352, 352)
    ids, mask = (torch.from_numpy(a) for a in ours.tokenizer(["a red polyp", "one small round lesion on the left"]))
    with torch.no_grad():
        mine = ours(pixels, ids, mask)
        theirs = whole(input_ids=ids, pixel_values=pixels, attention_mask=mask).logits
    torch.testing.assert_close(mine[:, 0], theirs, rtol=0, atol=1e-5)


def test_padding_and_later_words_do_not_reach_back(nano):
    short, mask = (torch.from_numpy(a) for a in nano.tokenizer(["red polyp"]))
    long, long_mask = (torch.from_numpy(a) for a in nano.tokenizer(["red polyp"], length=20))
    torch.testing.assert_close(nano.text_states(short, mask), nano.text_states(long, long_mask))


def test_the_word_matters(nano):
    a, b = (nano.text_states(*(torch.from_numpy(x) for x in nano.tokenizer([word]))) for word in ("polyp", "lesion"))
    assert (a - b).abs().max() > 1e-3
