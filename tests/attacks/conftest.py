"""What is attacked: the toy bundle and the toy data of the runtime's tests."""

from ..deploy.conftest import colours, fixed_bundle, toy_bundle, toy_data  # noqa: F401  # pytest finds them here
