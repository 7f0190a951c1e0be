"""MkDocs hooks: the generated page of settings, equations as MathML."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# GitHub's notation, so that the equations can be read in the repository too.
_BLOCK = re.compile(r"^```math\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"\$`(.+?)`\$")

_equations: dict[str, str] = {}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the page of all settings, which is made from the settings' own descriptions."""
    from ibrl_torchrl.config.help import settings_markdown

    files.append(File.generated(config, "settings.md", content=settings_markdown()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace LaTeX equations by placeholders, which Markdown leaves alone."""

    def placeholder(display: str) -> Any:
        def replace(match: re.Match[str]) -> str:
            name = f"equation{len(_equations):04}x"
            mathml = convert(" ".join(match[1].split()), display=display)
            _equations[name] = f'<span class="equation {display}">{mathml}</span>'
            return f"\n{name}\n" if display == "block" else name

        return replace

    return _INLINE.sub(placeholder("inline"), _BLOCK.sub(placeholder("block"), markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Insert the equations."""
    return re.sub(r"equation\d{4}x", lambda name: _equations[name[0]], html)
