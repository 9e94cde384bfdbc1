"""The errors a user can cause; the command line prints their one sentence and exits with code 2.

UserError
  BundleError   a bundle that is damaged, foreign or of another schema
  EngineError   an engine that is not here or cannot run this bundle
    NotANumber  an engine that answers with NaN or infinity
"""


class UserError(ValueError):
    """Bad input: one sentence with what was given, what was expected and the way out."""


class BundleError(UserError):
    """A bundle that cannot be trusted or read."""


class EngineError(UserError):
    """An engine that is absent or cannot run what it was given."""


class NotANumber(EngineError):
    """An engine whose answer is NaN or infinity."""
