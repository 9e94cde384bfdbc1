"""Drawn sources: small pictures and masks in whatever arrangement a data set has."""

import io

import numpy as np
import pytest
from PIL import Image


def encoded(values, name):
    file = io.BytesIO()
    Image.fromarray(values).save(file, {"jpg": "JPEG", "jpeg": "JPEG"}.get(name.rsplit(".", 1)[-1], "PNG"))
    return file.getvalue()


@pytest.fixture
def lay(tmp_path):
    """Write {relative path: bytes, text or array} below a folder and return it."""

    def write(files, name="source"):
        root = tmp_path / name
        for path, content in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, np.ndarray):
                content = encoded(
                    content, {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(path.split(".")[-1], "PNG")
                )
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return write
