"""What of a sentence a model reads: token ids, and a word, once, where the end of a sentence is not read."""

import logging
from collections.abc import Sequence

import numpy as np

from .errors import UserError
from .manifest import Manifest
from .words import Tokenizer

LOG = logging.getLogger("vlseg")
"""Its warnings go to stderr where nobody listens; no word of a prompt is in them."""


class Reading:
    """The tokenizer of a model, and the limits of what reads its tokens; to be called with sentences.

    Attributes:
        length: tokens that the text part always takes; None where it takes as many as there are.
        words: words that count; None where all that are read do.
    """

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer | None) -> None:
        """Take the tokenizer, None where the prompts are fixed; to be asked is an error then."""
        self._manifest, self._known, self._told = manifest, tokenizer, False
        axes, outputs = manifest.axes.get("text", {}), manifest.flow["text"]["outputs"]
        self.length = _second(axes.get("input_ids", []))
        self.words = _second(axes.get("text_tokens", [])) if "text_mask" in outputs else None

    def __call__(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return input_ids and attention_mask, int64 (B, L); UserError where the prompts are fixed."""
        ids, mask = self._tokenizer(prompts, self.length)
        if not self._told:
            self._told = any(self._tell(prompt) for prompt in prompts if self._may_be_cut(prompt))
        return ids, mask

    def unread(self, prompt: str) -> str:
        """Return the end of a sentence that is not read; empty where all of it is."""
        return self._tokenizer.unread(prompt, self.length, self.words)

    @property
    def _tokenizer(self) -> Tokenizer:
        if self._known is None:
            name = self._manifest.name
            raise UserError(f"{name} has fixed prompts and no words of its own: {exported_for(self._manifest)}")
        return self._known

    def _may_be_cut(self, prompt: str) -> bool:
        """Return False where a sentence has fewer bytes than would fit tokens, or words."""
        tokens = self.length or self._tokenizer.context
        return len(prompt.encode()) + 2 > (tokens if self.words is None else min(tokens, self.words))

    def _tell(self, prompt: str) -> bool:
        if not (left := self.unread(prompt)):
            return False
        tokens = self.length or self._tokenizer.context
        LOG.warning(
            "a prompt is longer than what %s reads (%s): it is cut%s, and its last %d of %d words do not count",
            self._manifest.name,
            f"{tokens} tokens" if self.words is None else f"{tokens} tokens, {self.words} words",
            " at a word" if self._tokenizer.whole_words else "",
            len(left.split()),
            len(prompt.split()),
        )
        return True


def _second(dims: Sequence[int | str]) -> int | None:
    """Return the second dim where it is a number."""
    return dims[1] if len(dims) > 1 and isinstance(dims[1], int) else None


def exported_for(manifest: Manifest) -> str:
    """Return what a bundle of fixed prompts can be asked, as the end of a sentence."""
    return f"it was exported for {', '.join(map(repr, manifest.fixed_prompts))}"
