"""What happens to a word, written once: from a sentence to token ids, with `tokenizers` alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as Library

from .errors import BundleError, UserError

CONTEXT = 77
LONGEST = 100_000
"""Characters of a prompt; more say nothing, since all but the first 77 tokens are cut off, and take long to read."""


class Tokenizer:
    """A tokenizer: begin token, words, end token; padded with the end token, cut to its context keeping the end token.

    One of pieces marked as continuations (BERT's WordPiece) is cut at a word, any other (CLIP's) as the library cuts.

    Thread-safe: the library's object is never changed after loading.

    Attributes:
        path: the file it was loaded from, or None.
        json: the whole `tokenizer.json` as text.
        context: the longest sequence, in tokens: 77, or less where the file's own truncation says so.
        end: the id of the end token, which is also the padding.
        whole_words: is a sentence that is too long cut at a word?
    """

    def __init__(self, json: str, path: Path | None = None):
        self.json, self.path = json, path
        with self._spoken():
            self._library = Library.from_str(json)
            told = loads(json)
            self.context = _context(told.get("truncation"))
            _check_templates(told.get("post_processor"))
            self._library.no_padding()
            self._library.no_truncation()
            frame = self._library.encode("").ids
        if len(frame) != 2:
            raise BundleError(
                f"{path or 'tokenizer'} adds {len(frame)} tokens to an empty text, expected begin and end"
            )
        self.end = frame[1]
        self.whole_words = type(self._library.model).__name__ == "WordPiece"

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Load a `tokenizer.json`.

        Raises:
            BundleError: absent, malformed, or without begin and end tokens.
        """
        path = Path(path)
        try:
            return cls(path.read_text(encoding="utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"cannot read the tokenizer {path} ({error}): copy the bundle again") from error

    def cut_to(self, context: int = CONTEXT) -> "Tokenizer":
        """Return a tokenizer whose file says to cut to `context` tokens, at most 77, whatever this one's says."""
        truncation = {"direction": "Right", "max_length": context, "strategy": "LongestFirst", "stride": 0}
        return Tokenizer(dumps({**loads(self.json), "truncation": truncation}, ensure_ascii=False), self.path)

    def __call__(self, texts: Sequence[str], length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return input_ids and attention_mask, both int64 (B, L).

        L is `length`, or that of the longest text, and at most the context; the mask is 1 on begin, words and the
        first end token.

        Raises:
            UserError: a text that is not valid Unicode, or of more than `LONGEST` characters.
            BundleError: the tokenizer has no token for what is asked.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError(f"texts is {texts!r}, expected a list of at least one sentence")
        limit = min(length or self.context, self.context)
        rows = [self._cut(encoding, limit) for encoding in self._encode(texts)]
        width = length or max(map(len, rows))
        input_ids = np.full((len(rows), width), self.end, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            input_ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return input_ids, mask

    def unread(self, text: str, length: int | None = None, words: int | None = None) -> str:
        """Return the end of a text that does not fit into `length` tokens or the context, or is behind so many `words`.

        Empty where all is read.
        """
        (encoding,) = self._encode([text])
        first = len(self._cut(encoding, min(length or self.context, self.context))) - 1
        first = len(encoding.ids) if first == len(encoding.ids) - 1 else first
        if words is not None:
            late = (i for i, word in enumerate(encoding.word_ids) if word is not None and word >= words)
            first = min(first, next(late, first))
        return text[encoding.offsets[first][0] :].strip() if first < len(encoding.ids) else ""

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"prompt {text!a} is not valid Unicode: type it again") from error
            if len(text) > LONGEST:
                raise UserError(f"a prompt has {len(text):,} characters, at most {LONGEST:,} are read: shorten it")
        with self._spoken():
            return self._library.encode_batch(list(texts))

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Let what the library says come out as a BundleError."""
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise self._refusal(error) from error
        except Exception as error:
            # The library has no error class of its own: it raises bare Exception, and only that is meant here.
            if type(error) is not Exception:
                raise
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> BundleError:
        return BundleError(f"{self.path or 'tokenizer'} is not a tokenizer.json ({error}): copy the bundle again")

    def _cut(self, encoding: Encoding, limit: int) -> list[int]:
        ids, words = encoding.ids, encoding.word_ids
        if len(ids) <= limit:
            return ids
        kept = limit - 1
        while self.whole_words and kept > 1 and words[kept] == words[kept - 1]:
            kept -= 1
        # a first word that alone is too long is cut after all
        return [*ids[: kept if kept > 1 else limit - 1], self.end]


def _context(truncation: Any) -> int:
    """Return the longest sequence, in tokens, by a file's truncation."""
    context = CONTEXT if truncation is None else min(CONTEXT, truncation["max_length"])
    if context < 2:
        raise ValueError(f"it cuts sentences to {context} tokens, and begin and end alone are two")
    return context


def _check_templates(processor: Any) -> None:
    """Raise ValueError where a template names a token that it does not define; the library would panic at it."""
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors", ()):
        _check_templates(inner)
    known = processor.get("special_tokens", {})
    for piece in (*processor.get("single", ()), *processor.get("pair", ())):
        if isinstance(piece, dict) and (name := piece.get("SpecialToken", {}).get("id")) not in (None, *known):
            raise ValueError(f"its template names {name!r}, which is no special token")
