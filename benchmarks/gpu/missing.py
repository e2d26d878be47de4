"""Which packages this Python lacks for the measurements; `benchmarks/gpu.sh` asks before and after it installs."""

import sys
from importlib.util import find_spec

# What `transformer/` and the tests import beyond what a machine with torch has, and the packages that hold it.
BUNDLED = {
    "babel": "babel",
    "langcodes": "langcodes",
    "language_data": "language-data",
    "lxml": "lxml",
    "pooch": "pooch",
    "pydantic": "pydantic",
    "pytest_timeout": "pytest-timeout",
    "regex": "regex",
    "requests": "requests",
    "sacremoses": "sacremoses",
    "ruamel.yaml": "ruamel.yaml",
    "xdist": "pytest-xdist",
    "yaml": "pyyaml",
    "zstandard": "zstandard",
}
THERE = ("matplotlib", "numpy", "pandas", "psutil", "pyarrow", "pytest", "rich", "sacrebleu", "safetensors",
         "sentencepiece", "torch")  # fmt: skip


def found(module: str) -> bool:
    """Whether the module could be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def main() -> None:
    """Name what is missing, on one line; the exit status is 1 if anything is."""
    missing = [name for name in (*BUNDLED, *THERE) if not found(name)]
    print(", ".join(BUNDLED.get(name, name) for name in missing))
    sys.exit(bool(missing))


if __name__ == "__main__":
    main()
