"""A sentence too long is said once, on stderr, without a word of it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.reading import Reading
from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.words import Tokenizer

LONG = "red spot " + "of unspeakable size " * 40


@pytest.fixture
def report_reader() -> Tokenizer:
    """A tokenizer of word pieces, as reports are read with."""
    pieces = ("[CLS]", "[SEP]", "[UNK]", "lung", "in", "##fect", "##ion", "left")
    library = Library(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return Tokenizer(library.to_str())


def test_the_first_sentence_that_is_cut_is_said_once(toy_bundle, colours, caplog):
    with Segmenter.open(toy_bundle) as model:
        model.segment(colours[0], "red spot")
        assert not caplog.records and model.unread("red spot") == ""
        for prompt in (LONG, LONG, LONG + "green"):
            model.segment(colours[0], prompt)
    (record,) = caplog.records
    said = record.getMessage()
    assert "longer than what toy reads (77 tokens)" in said and "of 122 words do not count" in said
    assert "unspeakable" not in said and record.levelname == "WARNING"


def test_the_end_that_is_not_read(toy_bundle):
    with Segmenter.open(toy_bundle) as model:
        left = model.unread(LONG)
        ids, _ = model.tokenize([LONG])
        read, _ = model.tokenize([LONG.strip().removesuffix(left)])
    assert LONG.strip().endswith(left) and np.array_equal(ids, read)


def test_a_report_is_cut_at_a_word_and_after_so_many(toy_bundle, report_reader, caplog):
    manifest = Manifest.load(toy_bundle)
    text = {"inputs": ["input_ids", "attention_mask"], "outputs": ["text_tokens", "text_mask"]}
    axes = {"input_ids": ["batch", 77], "text_tokens": ["batch", 3, 8], "text_mask": ["batch", 3]}
    every = replace(manifest, flow={**manifest.flow, "text": text}, axes={**manifest.axes, "text": axes})
    reading = Reading(every, report_reader)
    assert reading.unread("left lung infection") == "" and not caplog.records
    assert reading.unread("left lung infection left lung") == "left lung"
    reading(["left lung infection left lung"])
    assert "(77 tokens, 3 words): it is cut at a word, and its last 2 of 5 words" in caplog.messages[0]
    mean = Reading(manifest, report_reader)
    assert mean.words is None and mean.unread("infection " * 25) == "" and mean.unread("infection " * 26) == "infection"


def test_fixed_prompts_have_no_words(fixed_bundle):
    with Segmenter.open(fixed_bundle) as model, pytest.raises(UserError, match="no words of its own"):
        model.unread("red")


def test_the_door_says_it_on_stderr_alone(toy_bundle, colours, tmp_path):
    Image.fromarray(colours[0]).save(tmp_path / "x.png")
    words = ["segment", toy_bundle, tmp_path / "x.png", "--prompt", LONG, "--out", tmp_path / "m.png", "--json"]
    done = subprocess.run(
        [Path(sys.executable).with_name("vlseg"), *map(str, words)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("a prompt is longer than what toy reads") == 1
    assert json.loads(done.stdout)[0]["mask"].endswith("m.png")
