"""Download the wheels that a GPU machine without a network lacks, for Python 3.12 and its PyTorch.

    python examples/gpu/prepare.py [--folder .wheels] [--pixels]

Run it where pip reaches a package index; versions are those of ``constraints.txt``. PyTorch itself
and NumPy, SciPy, pytest, h5py, Matplotlib and the like are expected on the GPU machine. There,
install what the folder holds into a folder of its own:

    python3 -m pip install --no-index --no-deps --target /tmp/site .wheels/*.whl
    export PYTHONPATH=/tmp/site
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What `import ibrl_torchrl` and the tests marked gpu need beside the above.
LEARNER = [
    *("torchrl", "tensordict", "pyvers", "orjson", "importlib_metadata", "cloudpickle"),
    *("hydra-core", "omegaconf", "antlr4-python3-runtime"),
]
# Meta-World and its simulator, for the pixel step. Without PyAV, which writes videos.
PIXELS = [
    *("metaworld", "mujoco", "gymnasium", "Farama-Notifications", "glfw", "PyOpenGL"),
    *("etils", "importlib_resources", "zipp"),
]
PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 26, 27, 28, 31, 34, 35)),
    *("manylinux2014_x86_64", "manylinux1_x86_64"),
]
LARGEST = 58e6  # bytes of all wheels that leave room for a checkout in a transfer of 64 MiB


def requirement(package: str, constraints: str) -> str:
    """Package with the version of the constraints, if they have one."""
    name = re.sub(r"[-_.]+", "[-_.]+", re.escape(package).replace(r"\-", "-"))
    pinned = re.search(rf"^{name}==(\S+)$", constraints, re.MULTILINE | re.IGNORECASE)
    return package if pinned is None else f"{package}=={pinned.group(1)}"


def commands(folder: Path, packages: list[str]) -> list[list[str]]:
    """Commands of pip: one for wheels of the index, one for each package that has only sources."""
    constraints = (ROOT / "constraints.txt").read_text()
    pip = [sys.executable, "-m", "pip"]
    sources = [name for name in packages if name == "antlr4-python3-runtime"]
    wheels = [requirement(name, constraints) for name in packages if name not in sources]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    return [
        [
            *(*pip, "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12"),
            *("--implementation", "cp", *platforms, "-d", str(folder), *wheels),
        ],
        *(
            [*pip, "wheel", "--no-deps", "-w", str(folder), requirement(name, constraints)]
            for name in sources
        ),
    ]


def main() -> int:
    """Download; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".wheels")
    parser.add_argument("--pixels", action="store_true", help="Meta-World, too (48 MB)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for command in commands(options.folder, LEARNER + (PIXELS if options.pixels else [])):
        if code := subprocess.run(command).returncode:
            return code
    size = sum(wheel.stat().st_size for wheel in options.folder.glob("*.whl"))
    print(f"{len([*options.folder.glob('*.whl')])} wheels, {size / 1e6:.0f} MB: {options.folder}")
    if size > LARGEST:
        print(f"warning: more than {LARGEST / 1e6:.0f} MB; leave out --pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
