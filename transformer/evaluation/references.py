"""References: one for a sentence, or several by different translators, of which any is as good as the others."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

Reference: TypeAlias = str | list[str]


def first_of(reference: Reference) -> str:
    """The reference that counts where there can be only one."""
    return reference if isinstance(reference, str) else reference[0]


def streams(references: Sequence[Reference]) -> list[list[str | None]]:
    """As sacreBLEU takes them: for each translator a list as long as the test set, None where there is none."""
    each = ([one] if isinstance(one, str) else one for one in references)
    return [list(stream) for stream in zip_longest(*each)] or [[]]


def reference_in(row: Mapping[str, Any]) -> Reference:
    """The reference or references of a line of `reports/translations`."""
    further: list[str] = row.get("further_references", [])
    return [row["reference"], *further] if further else str(row["reference"])


def reference_entries(reference: Reference) -> dict[str, Any]:
    """How a line of `reports/translations` holds them."""
    if isinstance(reference, str) or len(reference) == 1:
        return {"reference": first_of(reference)}
    return {"reference": reference[0], "further_references": reference[1:]}
