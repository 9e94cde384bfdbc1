"""Libraries that only some inputs and outputs need: loaded when first used, and named with their extra if absent."""

import importlib
from types import ModuleType

from .errors import UserError


def load(module: str, extra: str, purpose: str) -> ModuleType:
    """Return a module of an optional library.

    Raises:
        UserError: it is not installed; the sentence says what needs it and which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.split(".")[0]
        raise UserError(f'{purpose} needs {library}, which is not installed: pip install "vlseg[{extra}]"') from error
