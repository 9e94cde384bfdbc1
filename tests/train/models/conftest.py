import pytest
import torch

from vlseg.train.models.methods import build_model


@pytest.fixture
def nano():
    return build_model("clipseg/frozen", "nano")


@pytest.fixture
def inputs(nano):
    ids, mask = (torch.from_numpy(a) for a in nano.tokenizer(["a red polyp", "one small lesion on the left"]))
    return torch.randn(2, 3, 32, 32), ids, mask
