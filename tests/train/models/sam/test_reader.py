"""The reader of reports: words from pieces, against a walk over the tokens."""

import json

import pytest
import torch
from tokenizers import Tokenizer as Library
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from vlseg.deploy.errors import UserError
from vlseg.deploy.words import Tokenizer
from vlseg.train.models.backbone import small_tokenizer
from vlseg.train.models.methods import build_model
from vlseg.train.models.sam.reader import Reader, mean_word, opens

PIECES = ["[UNK]", "[CLS]", "[SEP]", "upper", "left", "lung", "infect", "##ed", "##ion", ",", "areas"]


@pytest.fixture(scope="module")
def wordpiece():
    library = Library(WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    library.pre_tokenizer = BertPreTokenizer()
    library.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return Tokenizer(library.to_str())


def reader_of(tokenizer, vocabulary):
    torch.manual_seed(0)
    narrow = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertModel(BertConfig(vocab_size=vocabulary, **narrow), add_pooling_layer=False)
    return Reader(bert.eval(), tokenizer).double()


def walked(hidden, groups):
    return torch.stack([torch.stack([hidden[i] for i in group]).mean(0) for group in groups])


@torch.no_grad()
def test_the_pieces_of_a_word_are_averaged(wordpiece):
    reader = reader_of(wordpiece, len(PIECES))
    ids, mask = (torch.from_numpy(a) for a in wordpiece(["infected areas, upper left lung", "infection"]))
    assert ids.tolist()[0] == [1, 6, 7, 10, 9, 3, 4, 5, 2] and ids.tolist()[1][:4] == [1, 6, 8, 2]
    words, there = reader(ids, mask)
    hidden = reader.bert(ids, attention_mask=mask).last_hidden_state
    expected = walked(hidden[0], [[1, 2], [3], [4], [5], [6], [7]])
    torch.testing.assert_close(words[0, :6], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(words[1, :1], walked(hidden[1], [[1, 2]]), rtol=0, atol=1e-12)
    assert there.sum(1).tolist() == [6, 1] and not words[0, 6:].any() and words.shape == (2, 77, 16)
    mean, said = mean_word(words, there)
    torch.testing.assert_close(mean[0, 0], expected.mean(0), rtol=0, atol=1e-12)
    assert said.tolist() == [[1], [1]]


@torch.no_grad()
def test_padding_and_length_change_nothing(wordpiece):
    reader = reader_of(wordpiece, len(PIECES))
    for text in ("upper left lung", ""):
        short, long = (reader(*map(torch.from_numpy, wordpiece([text], length))) for length in (5, 77))
        torch.testing.assert_close(short, long, rtol=0, atol=1e-12)
    assert not long[0].any() and not long[1].any() and mean_word(*long)[1].item() == 0


def test_words_of_byte_level_pieces():
    tokenizer = small_tokenizer(1024)
    table = opens(tokenizer, 1024)
    text = "two infected areas, upper-left lung"
    ids, _ = tokenizer([text])
    pieces = {index: piece for piece, index in json.loads(tokenizer.json)["model"]["vocab"].items()}
    found = [pieces[i] for i in ids[0, 1:-1]]
    starts = [piece for piece, i in zip(found, ids[0, 1:-1], strict=True) if table[i]]
    assert starts == [piece for piece in found if piece[0] in "\u0120,-"]


def test_bert_of_another_width_is_refused(tmp_path):
    from transformers import SamModel

    from vlseg.train.models.sam.sizes import sam_config

    SamModel(sam_config("nano")).save_pretrained(tmp_path)
    narrow = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=1024, **narrow)).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_text(small_tokenizer(1024).json)
    (tmp_path / "bert" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(UserError, match="has features of width 16, expected 32"):
        build_model("sam/lga", "nano", weights=str(tmp_path))
