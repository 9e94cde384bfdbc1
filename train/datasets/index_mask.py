"""Label maps: PNG files whose pixels are numbers of classes, and `classes.txt`, which names them."""

import re

from ...deploy.errors import UserError
from .items import Item
from .layouts import Layout, find_items
from .tree import Part, Tree

SPLIT = r"(?P<key>(?:(?P<split>train|training|val|valid|validation|test|testing)/)?[^.]+)"
LAYOUT = Layout(
    image=Part(rf"(?:^|/)images/{SPLIT}\.(?:jpe?g|png|bmp|tiff?|webp)$", "images/train/001.jpg"),
    mask=Part(rf"(?:^|/)masks/{SPLIT}\.png$", "masks/train/001.png"),
    reads="labels",
    mask_name="{name}_{slug}",
)
EXPECTED = "expected classes.txt beside images/ and masks/, with lines such as `1 liver`"


def read_index_masks(tree: Tree) -> list[Item]:
    """Return the images of a source whose masks are label maps; numbers that `classes.txt` leaves out are background.

    Raises:
        UserError: no `classes.txt` or one of another form; or as `find_items`.
    """
    return find_items(tree, LAYOUT, _classes(tree))


def _classes(tree: Tree) -> dict[str, str]:
    path = tree.named("classes.txt")
    if path is None:
        raise UserError(f"{tree.source} holds no classes.txt, or several: {EXPECTED}")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    pairs = [re.fullmatch(r"\s*(\d+)[\s:,]+(.+?)\s*", line) for line in lines]
    if not lines or None in pairs:
        raise UserError(f"{path} is not a list of numbers and names: {EXPECTED}")
    return {pair[1]: pair[2] for pair in pairs if pair}
