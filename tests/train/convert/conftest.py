import hashlib
from pathlib import Path

import pytest
import torch

from vlseg.train.models.backbone import small_tokenizer


@pytest.fixture
def tokenizer(tmp_path) -> Path:
    """The tokenizer.json of the nano sizes."""
    path = tmp_path / "words.json"
    path.write_text(small_tokenizer(1024).json)
    return path


@pytest.fixture
def saved(tmp_path):
    """Save an object as `torch.save` does; return the file and its SHA-256."""

    def save(value, name: str = "checkpoint.pth"):
        path = tmp_path / name
        torch.save(value, path)
        return path, hashlib.sha256(path.read_bytes()).hexdigest()

    return save
