"""Writes constraints.txt: every version, with the hashes of all its files on all platforms. `make lock` runs it.

The file has one part for each way to install; later parts hold only what the earlier ones lack. torch and the
libraries of its CUDA build are left out: the package index decides between torch's builds. pyproject.toml names its
version.
Without `--upgrade` every version stays that is already there.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path("constraints.txt")
# The Makefile cuts the file before one of these headings.
PARTS = {
    "# The pipeline.": [],
    "# Only for the extra `servers`.": ["servers"],
    "# Only for the extra `test`.": ["servers", "test"],
    "# Only for the extra `ja`, and for `ko`.": ["servers", "test", "ja", "ko"],
    "# Only for the extra `upkeep`.": ["servers", "test", "ja", "ko", "upkeep"],
}
OF_TORCH = re.compile(r"(torch|triton|nvidia-(?!ml-py)[\w-]+|cuda-[\w-]+)$")
HEAD = """\
# Every version, with the hashes of all its files. Written by `make lock`; installed by pip with --require-hashes.
# torch is not here: its version is in pyproject.toml, its build is the package index's choice, and the hashes of the
# files that were installed are in each lineage record.
"""
OLDEST_PYTHON = "3.11"


def compiled(extras: list[str], versions: Path) -> dict[str, str]:
    """What uv resolves for the project with these extras on any platform: name -> its lines of the lock."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "lock.txt")
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet", "--universal"]
        command += ["--python-version", OLDEST_PYTHON, "--fork-strategy", "fewest", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        command += [word for extra in extras for word in ("--extra", extra)]
        subprocess.run([*command, "--constraints", str(versions), "--output-file", str(output)], check=True)
        return entries(output.read_text(encoding="utf-8"))


def entries(text: str) -> dict[str, str]:
    """The lines of each requirement of a lock, by its name."""
    found = re.findall(r"^([\w.-]+)==.*(?:\n    --hash=.*)*\n", text, re.MULTILINE)
    blocks = re.finditer(r"^[\w.-]+==.*(?:\n    --hash=.*)*\n", text, re.MULTILINE)
    return dict(zip(found, (block[0] for block in blocks), strict=True))


def pins(lock: dict[str, str]) -> str:
    """Its versions alone, in the form of constraints."""
    return "".join(f"{block.split(' ', 1)[0].split(';')[0]}\n" for block in lock.values())


def lock(former: str, upgrade: bool) -> str:
    """The text of the new lock."""
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder, "versions.txt")
        versions.write_text("" if upgrade else pins(entries(former)), encoding="utf-8")
        whole = compiled(list(PARTS.values())[-1], versions)  # first, so that all parts agree
        versions.write_text(pins(whole), encoding="utf-8")
        written, text = set[str](), HEAD
        for heading, extras in PARTS.items():
            part = compiled(extras, versions)
            new = [name for name in part if name not in written and not OF_TORCH.match(name)]
            text += f"\n{heading}\n{''.join(part[name] for name in new)}"
            written.update(new)
        return text


def main() -> None:
    """Read the option and replace the file."""
    parser = argparse.ArgumentParser(description="Write constraints.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    text = lock(LOCK.read_text(encoding="utf-8"), parser.parse_args().upgrade)
    new = LOCK.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(LOCK)


if __name__ == "__main__":
    main()
