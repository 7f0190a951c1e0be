"""Griffe extension: the package's docstrings as mkdocstrings expects them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr):`~?([^`]*)`")


class Docstrings(griffe.Extension):
    """Rewrite what is written for doctest and reStructuredText.

    ``Example:`` is a section of doctests, a role is code, and ``::`` at the end of a line starts an
    indented code block, as in Markdown without it.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if (docstring := obj.docstring) is None:
            return
        text = re.sub(r"^Example:$", "Examples:", docstring.value, flags=re.MULTILINE)
        text = _ROLE.sub(r"`\1`", text)
        docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
