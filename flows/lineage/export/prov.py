"""W3C PROV as PROV-JSON: contents are entities, executions activities, the machine's software their agent."""

from prov.model import ProvDocument

from flows.lineage.chain import Chain, Step
from flows.lineage.export import brought, steps_of
from flows.lineage.sources import Source
from flows.records.record import Artifact, Record

CONTENT, RUN, SOFTWARE, SOURCE = "content", "run", "software", "source"
TERMS = "attention"


def prov(chain: Chain) -> str:
    """The whole chain as one document.

    Raises:
        DataError: a stage has no record.
    """
    document = ProvDocument()
    for prefix in (CONTENT, RUN, SOFTWARE, SOURCE, TERMS):
        document.add_namespace(prefix, f"urn:attention-pipeline:{prefix}:")
    seen: set[str] = set()
    for one, step, record in steps_of(chain):
        _stage(document, one, step, record, seen)
    return str(document.serialize(format="json", indent=2))


def _stage(document: ProvDocument, chain: Chain, step: Step, record: Record, seen: set[str]) -> None:
    run = f"{RUN}:{record.digest}"
    document.activity(
        run,
        record.started,
        record.ended,
        {
            "prov:label": record.stage,
            f"{TERMS}:command": record.command,
            f"{TERMS}:commit": record.code.commit or "no git",
            f"{TERMS}:machine": ", ".join(record.machine.gpus) or record.machine.cpu,
        },
    )
    agent = f"{SOFTWARE}:python-{record.machine.python}"
    if agent not in seen:
        seen.add(agent)
        document.agent(agent, {"prov:type": document.valid_qualified_name("prov:SoftwareAgent")})
    document.wasAssociatedWith(run, agent)
    for one in record.inputs:
        document.used(run, _entity(document, one, seen))
    for one in record.outputs:
        document.wasGeneratedBy(_entity(document, one, seen), run, record.ended)
    for source in chain.sources_of(step):
        document.used(run, _source(document, source))
    for path, md5 in brought(chain, step).items():
        document.used(run, f"{CONTENT}:{md5}/{path}")


def _entity(document: ProvDocument, one: Artifact, seen: set[str]) -> str:
    """The same bytes at the same path are the same entity, whoever reads or writes them."""
    name = f"{CONTENT}:{one.md5}/{one.path}"
    if name not in seen:
        seen.add(name)
        hashes = {f"{TERMS}:md5": one.md5, f"{TERMS}:sha256": one.sha256}
        document.entity(name, [("prov:label", one.path), *hashes.items(), (f"{TERMS}:bytes", one.size)])
    return name


def _source(document: ProvDocument, source: Source) -> str:
    name = f"{SOURCE}:{source.file}"
    facts = {"licence": source.licence, "sha256": source.sha256 or "not stated"}
    named = [(f"{TERMS}:{key}", value) for key, value in facts.items()]
    document.entity(name, [("prov:label", source.origin), *named])
    return name
