"""What a model's text encoder will make of the sentences of a data folder, said before training starts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..deploy.annotations import RANDOM, Sample
from ..deploy.errors import UserError
from .models.promptable import Promptable


def check_sentences(model: Promptable, keys: Mapping[str, str], splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Return what there is to say of the sentences that `keys`, prompt keys by split, may choose.

    UserError for an empty one where the model needs words.
    """
    notes = []
    for split, samples in splits.items():
        texts = {text: sample for sample in samples for text in sentences(sample, keys[split])}
        empty = next((sample for text, sample in texts.items() if not text.strip()), None)
        if empty is not None and model.needs_words:
            raise UserError(
                f"{empty.name} has an empty report: give it words, choose another prompt key, or train with "
                "options.text=optional, which learns a query for images without a report"
            )
        if cut := sum(bool(model.tokenizer.unread(text)) for text in texts):
            notes.append(f"{cut} of {len(texts)} sentences of {split} are longer than what is read of them")
    return notes


def sentences(sample: Sample, key: str) -> Iterator[str]:
    """Yield every sentence that a prompt key may choose for a sample."""
    chosen = [name for name in sample.prompts if name != "p0"] if key == RANDOM else [key]
    for name in chosen:
        value = sample.prompts[name]
        yield from [value] if isinstance(value, str) else value


def say_sentences(
    model: Promptable,
    train_key: str,
    held_out_key: str,
    splits: Mapping[str, Sequence[Sample]],
    say: Callable[[str], None],
) -> None:
    """Check the sentences of all splits and say what there is to say; UserErrors as `check_sentences`."""
    keys = {split: train_key if split == "train" else held_out_key for split in splits}
    for note in check_sentences(model, keys, splits):
        say(note)
