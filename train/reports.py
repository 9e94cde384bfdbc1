"""What a frozen text encoder makes of sentences, computed once and kept in one safetensors file for every later run.

A sentence is named by a hash of itself and of the encoder: the file holds no word of a report.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from .models.methods import cacheable
from .models.parts import several
from .models.promptable import Promptable
from .sealed import Damaged, pack, unpack

Tensors = tuple[Tensor, ...]
PROGRESS = 200


class Reports:
    """The states of sentences under one frozen text encoder, in a file that runs share.

    Attributes:
        computed: how many sentences were encoded since the start.
    """

    def __init__(self, path: Path, model: Promptable) -> None:
        """Read what is there; UserError for a damaged file, or a text encoder that trains or sees the image."""
        if not cacheable(model)["text"] or model.text_depends_on_image:
            raise UserError(
                f"{path} is for a text encoder that neither training nor an image changes: leave out reports"
            )
        self.path, self.model, self.computed = path, model, 0
        self._held = _read(path)

    def prepare(self, texts: Iterable[str], say: Callable[[str], None]) -> None:
        """Encode the sentences that are not there yet, and write the file anew, whole or not at all.

        UserError where what is there has other shapes than the encoder makes.
        """
        texts = list(dict.fromkeys(texts))
        missing = [text for text in texts if self._name(text, 0) not in self._held]
        for text in [text for text in texts if text not in missing][:1]:
            self._compare(text)
        for done, text in enumerate(missing):
            self._keep(text)
            if done and done % PROGRESS == 0:
                say(f"encoded {done} of {len(missing)} sentences")
        if missing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, pack(self._held))
            say(f"encoded {len(missing)} sentences, kept in {self.path}")

    def states(self, text: str) -> Tensors:
        """Return the states of one sentence, batch of one; one that was not prepared is encoded now."""
        if self._name(text, 0) not in self._held:
            self._keep(text)
        found: list[Tensor] = []
        while (name := self._name(text, len(found))) in self._held:
            found.append(self._held[name])
        return tuple(found)

    def _name(self, text: str, part: int) -> str:
        digest = hashlib.sha256(f"{self.model.weights_hash}/{self.model.variant}/{text}".encode()).hexdigest()
        return f"{digest[:32]}.{part}"

    def _keep(self, text: str) -> None:
        self.computed += 1
        for part, tensor in enumerate(self._encode(text)):
            self._held[self._name(text, part)] = tensor

    def _compare(self, text: str) -> None:
        found, expected = (
            tuple(tuple(one.shape) for one in state) for state in (self.states(text), self._encode(text))
        )
        if found != expected:
            raise UserError(
                f"{self.path} holds features of shape {found[0]}, this encoder makes {expected[0]}: "
                "name another file, or delete it"
            )

    @torch.no_grad()
    def _encode(self, text: str) -> Tensors:
        device = next(self.model.parameters()).device
        ids, mask = (torch.from_numpy(array).to(device) for array in self.model.tokenizer([text]))
        return tuple(tensor.cpu().contiguous() for tensor in several(self.model.text_states(ids, mask)))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        return {}
    try:
        return unpack(path)[0]
    except Damaged as error:
        raise UserError(f"the file of reports {path} is damaged ({error}): delete it and run again") from error
