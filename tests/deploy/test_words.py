import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.words import Tokenizer

TINY = Path(__file__).parents[2] / "train" / "models" / "tiny" / "tokenizer.json"


@pytest.fixture
def tokenizer(toy_bundle):
    return Tokenizer.load(toy_bundle / "tokenizer.json")


def test_ids_and_mask_by_hand(tokenizer):
    ids, mask = tokenizer(["Red round SPOT", "", "green mauve"])
    assert ids.tolist() == [[0, 3, 6, 7, 1], [0, 1, 1, 1, 1], [0, 4, 2, 1, 1]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_long_texts_keep_the_end_token(tokenizer):
    ids, mask = tokenizer(["red " * 10_000, "red"])
    assert ids.shape == (2, 77) and mask[0].all()
    assert ids[0].tolist() == [0, *[3] * 75, 1]
    assert ids[1].tolist() == [0, 3, *[1] * 75]


@pytest.mark.parametrize("length", [3, 5, 77])
def test_a_fixed_length(tokenizer, length):
    ids, mask = tokenizer(["red green blue round", "red"], length=length)
    assert ids.shape == mask.shape == (2, length)
    assert ids[0, mask[0].sum() - 1] == tokenizer.end == 1
    assert mask.sum(axis=1).tolist() == [min(6, length), 3]


def test_exactly_77_is_not_cut(tokenizer):
    ids, mask = tokenizer(["red " * 75])
    assert ids.shape == (1, 77) and ids[0, -2] == 3 and mask.all()


@pytest.mark.parametrize("text", ["red \N{GRINNING FACE}", "red\0\n\tspot", "\u202e\u05d0\u05d3\u05dd red", "\u8d64"])
def test_odd_texts_are_only_unknown_words(tokenizer, text):
    ids, _ = tokenizer([text])
    assert ids[0, 0] == 0 and ids[0, -1] == 1


def test_broken_unicode_is_refused(tokenizer):
    with pytest.raises(UserError, match="not valid Unicode"):
        tokenizer(["red \ud800"])


@pytest.mark.parametrize("texts", [[], "red"])
def test_not_a_list_of_texts(tokenizer, texts):
    with pytest.raises(ValueError, match="expected a list"):
        tokenizer(texts)


def test_the_file_says_how_long_a_sentence_may_be(tokenizer):
    short = tokenizer.cut_to(4)
    assert short.context == 4 and Tokenizer(short.json).context == 4 and tokenizer.context == 77
    assert short(["red green blue"])[0].tolist() == [[0, 3, 4, 1]] and short.unread("red green blue") == "blue"
    assert short.cut_to().context == short.cut_to(500).context == 77


def test_a_file_that_leaves_no_room_is_refused(tokenizer):
    with pytest.raises(BundleError, match="cuts sentences to 1 tokens"):
        tokenizer.cut_to(1)


def test_padding_of_the_json_does_not_matter(tokenizer):
    loaded = json.loads(tokenizer.json)
    loaded["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<s>",
    }
    assert Tokenizer(json.dumps(loaded))(["red green blue"])[0].tolist() == [[0, 3, 4, 5, 1]]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"model": {"type": "Nobody"}}'])
def test_a_malformed_file_is_named(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"cannot read the tokenizer .*none\.json"):
        Tokenizer.load(tmp_path / "none.json")


def test_a_tokenizer_without_frame_is_refused(tokenizer):
    bare = {**json.loads(tokenizer.json), "post_processor": None}
    with pytest.raises(BundleError, match="adds 0 tokens"):
        Tokenizer(json.dumps(bare))


def test_many_threads_one_tokenizer(tokenizer):
    texts = ["red " * n for n in range(1, 60)]
    alone = [tokenizer([text]) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: tokenizer([text]), texts))
    for (a, b), (c, d) in zip(alone, together, strict=True):
        assert np.array_equal(a, c) and np.array_equal(b, d)


def test_equals_the_library_s_clip_tokenizer():
    """The embedded tokenizer through transformers' wrapper gives the same ids."""
    transformers = pytest.importorskip("transformers")
    ours = Tokenizer.load(TINY)
    end = json.loads(ours.json)["added_tokens"][-1]["content"]
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(TINY), pad_token=end, model_max_length=77)
    texts = ["one small round red spot in the upper left", "", "Polyp, located in TOP right of the image", "a " * 200]
    expected = theirs(texts, padding=True, truncation=True, return_tensors="np")
    ids, mask = ours(texts)
    assert np.array_equal(ids, expected["input_ids"]) and np.array_equal(mask, expected["attention_mask"])


def test_what_does_not_fit_is_said(tokenizer):
    text = "red " * 40 + "polyps at the very end of a long sentence " * 5
    left = tokenizer.unread(text)
    assert left and text.strip().endswith(left)
    read = text[: len(text.strip()) - len(left)]
    assert np.array_equal(tokenizer([read])[0], tokenizer([text])[0])
    assert tokenizer.unread("a small polyp") == ""
    assert tokenizer.unread("a small polyp", 3) == "small polyp"


def test_wordpieces_are_cut_at_a_word():
    library = Library(WordPiece({p: i for i, p in enumerate(("[CLS]", "[SEP]", "lung", "in", "##fect", "##ion", "u"))}))
    library.pre_tokenizer = BertPreTokenizer()
    library.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)])
    tokenizer = Tokenizer(library.to_str())
    text = "lung infection lung"
    assert tokenizer([text])[0].tolist() == [[0, 2, 3, 4, 5, 2, 1]]
    for length, ids in ((6, [0, 2, 3, 4, 5, 1]), (5, [0, 2, 1, 1, 1]), (4, [0, 2, 1, 1]), (3, [0, 2, 1])):
        assert tokenizer([text], length)[0].tolist() == [ids]
    assert tokenizer.unread(text, 5) == "infection lung" and tokenizer.unread(text, 6) == "lung"
    assert tokenizer(["infection"], 4)[0].tolist() == [[0, 3, 4, 1]]
