"""The fixtures of the family's tests."""

from tests.family.conftest import _frozen

__all__ = ["_frozen"]
