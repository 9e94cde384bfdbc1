"""Names for what gradio leaves nameless: a screen reader hears what a thumbnail shows."""

import json
from collections.abc import Sequence

from .examples import Example

# a tab's row of examples is made when the tab is opened first
_NAMING = """() => {
    const names = %s
    const give = (button, name) => { if (!button.ariaLabel) button.ariaLabel = name }
    const name = () => {
        document.querySelectorAll("[id$='-examples']").forEach(row =>
            row.querySelectorAll("button").forEach((button, i) => give(button, `Example: ${names[i]}`)))
        document.querySelectorAll("button > .image-frame").forEach(frame => give(frame.parentElement, "The picture"))
    }
    name()
    new MutationObserver(name).observe(document.body, {childList: true, subtree: true})
}"""


def naming(examples: Sequence[Example]) -> str:
    """Return JavaScript that names examples and pictures that can be pressed, now and whenever a tab brings more."""
    return _NAMING % json.dumps([example.name for example in examples])
