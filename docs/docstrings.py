"""Griffe extension: the package's docstrings as mkdocstrings expects them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr):`~?([^`]*)`")
_CODE = re.compile(r"(`+[^`]*`+|^ *(?:>>>|\.\.\.) .*$)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrite what is written for doctest and reStructuredText.

    ``Example:`` is a section of doctests, a role is code, ``::`` at the end of a line starts an
    indented code block, and shapes such as ``[*, A]`` are no emphasis.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if (docstring := obj.docstring) is None:
            return
        text = re.sub(r"^Example:$", "Examples:", docstring.value, flags=re.MULTILINE)
        text = re.sub(r"::$", ":", _ROLE.sub(r"`\1`", text), flags=re.MULTILINE)
        parts = _CODE.split(text)
        parts[::2] = [part.replace("[*", r"[\*") for part in parts[::2]]
        docstring.value = "".join(parts)
