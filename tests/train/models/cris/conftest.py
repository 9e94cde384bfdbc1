import pytest
import torch

from vlseg.train.models.methods import build_model


@pytest.fixture
def frozen():
    return build_model("cris/frozen", "nano")


@pytest.fixture
def inputs(frozen):
    ids, mask = (torch.from_numpy(a) for a in frozen.tokenizer(["a red polyp", "one small lesion on the left"]))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 64, 64, generator=generator), ids, mask
