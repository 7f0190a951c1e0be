"""Two tiny runs compute what they computed when their traces were stored."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
from support import golden

pytest.importorskip("metaworld")

# Processors render and convolve with other rounding, which Adam enlarges in weights: 2e-3 was seen.
OF_PIXEL_WEIGHTS = 5e-3


@pytest.mark.parametrize("name", golden.SETTINGS)
def test_numbers_are_those_of_the_stored_trace(name, tmp_path):
    found = dict(leaves(golden.trace(name, tmp_path / "run")))
    expected = dict(leaves(golden.stored(name)))
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        if isinstance(value, float):
            loose = name == "pixels" and place.startswith("/networks/")
            rel = OF_PIXEL_WEIGHTS if loose else 1e-4
            value = pytest.approx(value, rel=rel, abs=1e-5, nan_ok=True)
        assert found[place] == value, place


def leaves(content: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Every value of nested lists and dicts by its place, such as ``/train/0/frames``."""
    if isinstance(content, Mapping):
        items = content.items()
    elif isinstance(content, Sequence) and not isinstance(content, str):
        items = enumerate(content)
    else:
        yield place, content
        return
    for key, value in items:
        yield from leaves(value, f"{place}/{key}")
