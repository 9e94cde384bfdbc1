import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vlseg.train import sentences, tokenizer
from vlseg.train.models.sizes import TINY

SHIPPED = Tokenizer.from_file(str(TINY / "tokenizer.json"))
BOS, EOS = tokenizer.VOCABULARY - 2, tokenizer.VOCABULARY - 1


def test_the_two_last_ids_are_begin_and_end():
    assert SHIPPED.get_vocab_size() == tokenizer.VOCABULARY
    assert SHIPPED.token_to_id(tokenizer.BOS) == BOS
    assert SHIPPED.token_to_id(tokenizer.EOS) == EOS
    config = json.loads((TINY / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == tokenizer.VOCABULARY


@given(st.text(max_size=200))
def test_any_text_is_framed_and_short_enough(text):
    ids = SHIPPED.encode(text).ids
    assert ids[0] == BOS
    assert len(ids) <= tokenizer.CONTEXT
    if tokenizer.EOS not in text:
        assert int(np.argmax(ids)) == len(ids) - 1


def test_case_and_composition_do_not_matter():
    assert SHIPPED.encode("NÉVUS").ids == SHIPPED.encode("ne\u0301vus").ids


def test_every_word_of_a_drawn_sentence_is_one_or_two_tokens():
    for words in sentences.WORDS.values():
        for word in words:
            assert len(SHIPPED.encode(word).ids) - 2 <= 2 * len(word.split())


def test_an_empty_sentence_is_begin_and_end():
    assert SHIPPED.encode("").ids == [BOS, EOS]


def test_a_batch_is_padded_with_the_end():
    short, long = SHIPPED.encode_batch(["polyp", "one medium yellow round polyp"])
    assert len(short.ids) == len(long.ids)
    assert set(short.ids[sum(short.attention_mask) :]) == {EOS}


@pytest.mark.slow
def test_the_shipped_tokenizer_is_remade_by_its_seed(tmp_path):
    tokenizer.write_tokenizer(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_text() == (TINY / "tokenizer.json").read_text()
