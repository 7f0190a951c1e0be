"""Adapters of published code. Each imports a checkout of its repository, which is not here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def stubs(*names: str) -> Iterator[None]:
    """Context with empty modules for packages that published code imports, but needs no more.

    Any use of such a package raises ``AttributeError``.
    """
    missing = [name for name in names if name not in sys.modules]
    sys.modules.update((name, ModuleType(name)) for name in missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
