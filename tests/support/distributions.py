"""Which installed distributions some requirements need."""

import platform
from importlib.metadata import PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements: list[str], python: str = platform.python_version()) -> set[str]:
    """The distributions that `requirements` need under this version of Python, directly or through others.

    Under another version than ours, those that aren't installed here are named without what they need themselves.
    """
    found: set[str] = set()
    queue = [(Requirement(line), "") for line in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra, "python_full_version": python}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            distribution(name)
        except PackageNotFoundError:
            found.add(name)
            continue
        wanted = {""} | requirement.extras
        keys = {f"{name}[{extra}]" for extra in wanted} - found
        found |= keys
        queue += [(Requirement(line), key.split("[")[1][:-1]) for key in keys for line in requires(name) or []]
    return {key.split("[")[0] for key in found}
