"""Part 4: operators that have more than one way to be computed, base, each way alone."""

from benchmarks import operators
from benchmarks.gpu.parts import Result
from benchmarks.gpu.setting import SIZES, preset


def measure(result: Result) -> None:
    """See `benchmarks.operators`."""
    result.record(operators=operators.measure(preset(SIZES["base"])))
