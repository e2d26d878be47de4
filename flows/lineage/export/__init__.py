"""A chain in the exchange formats of others: OpenLineage events, a W3C PROV document, an RO-Crate."""

from flows.lineage.chain import Chain
from flows.records.record import Record
from transformer.errors import DataError


def records_of(chain: Chain) -> list[Record]:
    """The record of each step, in order.

    Raises:
        DataError: a step has none, so that it is unknown when and where it ran.
    """
    without = [step.stage for step in chain.steps if step.record is None]
    if without:
        raise DataError(f"no record of {', '.join(without)}: it is unknown when and where it ran")
    return [step.record for step in chain.steps if step.record]
