"""A chain in the exchange formats of others: OpenLineage events, a W3C PROV document, an RO-Crate."""

from flows.lineage.chain import Chain, Step
from flows.records.record import Record
from transformer.errors import DataError


def steps_of(chain: Chain) -> list[tuple[Chain, Step, Record]]:
    """Each step with its record in order, those of the parents first, and the chain that it belongs to.

    Raises:
        DataError: a step has none, so that it is unknown when and where it ran.
    """
    steps = [(one, step) for one in reversed(list(chain.generations())) for step in one.steps]
    without = [step.stage for _, step in steps if step.record is None]
    if without:
        raise DataError(f"no record of {', '.join(without)}: it is unknown when and where it ran")
    return [(one, step, step.record) for one, step in steps if step.record]


def brought(chain: Chain, step: Step) -> dict[str, str]:
    """The outputs of the parent's chain that the step brought, with their MD5s."""
    parent = chain.brought_by(step)
    made = {path: parent.maker(path) for path in parent.targets} if parent else {}
    return {path: maker.outputs[path] for path, maker in made.items() if maker and path in maker.outputs}
