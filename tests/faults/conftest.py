"""What faults are worked upon: the toy bundle of the runtime's tests, and drawn images that train in seconds."""

from pathlib import Path

import pytest

from ..deploy.conftest import (  # noqa: F401  # pytest finds them here
    colours,
    fixed_bundle,
    toy_bundle,
    toy_data,
)
from ..train.conftest import draw_shapes, nano  # noqa: F401


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """A data folder of 10 training, 4 validation and 3 test images."""
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "shapes", {"train": 10, "val": 4, "test": 3})
