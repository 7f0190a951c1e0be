"""The package's public names: complete, importable, and typed for users."""

import subprocess
import sys

import pytest

import ibrl_torchrl

SCRIPT = """\
import ibrl_torchrl as ibrl

scale = ibrl.Normalize.identity(4)
actor = ibrl.StateActor(scale, 2, hidden=[8])
"""


def test_every_public_name_is_importable_and_documented():
    for name in ibrl_torchrl.__all__:
        assert getattr(ibrl_torchrl, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Standardize'"):
        _ = ibrl_torchrl.Standardize


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", None),
        ("ibrl.StateActor(scale, 2, hiden=[8])", 'Unexpected keyword argument "hiden"'),
        ("ibrl.NoSuchName", 'Module has no attribute "NoSuchName"'),
        ("ibrl.make_env(3, 'box-close')", 'incompatible type "int"; expected "str"'),
    ],
)
def test_a_type_checker_knows_public_names(tmp_path, line, error):
    script = tmp_path / "script.py"
    script.write_text(f"{SCRIPT}{line}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), str(script)],
        capture_output=True,
        text=True,
    )
    if error is None:
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 1 and error in done.stdout
