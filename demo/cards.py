"""Answers side by side, as cards in HTML: pictures are within the page, so that none of them touches the disk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from .picture import data_uri
from .session import fitted

WIDTH = 480


@dataclass(frozen=True)
class Card:
    """One answer.

    Attributes:
        title: what is told apart.
        text: the sentence, or what the model is.
        pictures: captions and drawings, uint8 (h, w, 3), the first of them large.
        facts: names and values.
    """

    title: str
    text: str
    pictures: Sequence[tuple[str, np.ndarray]]
    facts: dict[str, str] = field(default_factory=dict)


def cards_html(cards: Iterable[Card], head: str = "") -> str:
    """Return cards as a grid that fits its columns to the screen, below a line of HTML."""
    return f'{head}<div class="cards">{"".join(map(_card, cards))}</div>'


def key_html(colours: dict[str, tuple[int, int, int]]) -> str:
    """Return a line that says what colours mean."""
    marks = "".join(
        f"<span><i style='background:rgb{colour}'></i>{escape(name)}</span>" for name, colour in colours.items()
    )
    return f'<p class="key">{marks}</p>'


def _card(card: Card) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in card.facts.items())
    figures = "".join(_figure(caption, drawing, i == 0) for i, (caption, drawing) in enumerate(card.pictures))
    words = f"<h3>{escape(card.title)}</h3><p>{escape(card.text)}</p>"
    return f'<article class="card">{words}{figures}<dl class="facts">{facts}</dl></article>'


def _figure(caption: str, drawing: np.ndarray, large: bool) -> str:
    source = data_uri(fitted(drawing, WIDTH))
    shown = "" if large else f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure{"" if large else " class=small"}>{shown}<img src="{source}" alt="{escape(caption)}"></figure>'
