"""A user's mistake as a message in the page; what nobody expected as one too, and in the server's log."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from ..deploy.errors import UserError

SECONDS = 12


def spoken(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let errors of a function, or of a generator of results, appear in the page instead of a stack trace."""

    @wraps(function)
    def once(*values: Any) -> Any:
        with _messages():
            return function(*values)

    @wraps(function)
    def many(*values: Any) -> Any:
        with _messages():
            yield from function(*values)

    return many if inspect.isgeneratorfunction(function) else once


@contextmanager
def _messages() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except UserError as error:
        raise _message(str(error), "Please check") from error
    except Exception as error:
        traceback.print_exc()
        what = f"something went wrong here that is not your doing ({type(error).__name__}); the server's log has more"
        raise _message(what, "Sorry") from error


def _message(text: str, title: str) -> gr.Error:
    # the page shows it as HTML, and a file may be called anything
    return gr.Error(escape(text, quote=False), duration=SECONDS, title=title, print_exception=False)
