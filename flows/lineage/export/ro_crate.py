"""RO-Crate: a folder with the asked-for outputs, their records, and a description of every run behind them."""

import io
import json
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from flows.lineage.chain import Chain, Step
from flows.lineage.export import brought, steps_of
from flows.lineage.sources import Source
from flows.records.record import Artifact, Record
from transformer.errors import DataError, ParamsError

RECORDS = "records"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"


def ro_crate(root: Path, chain: Chain, folder: Path) -> None:
    """Write the crate into `folder`, which must not exist.

    Raises:
        DataError: a stage has no record, or what was asked for is not in the workspace.
        ParamsError: `folder` exists.
    """
    steps = steps_of(chain)
    if folder.exists():
        raise ParamsError(f"{folder} exists: name a new folder")
    crate = ROCrate()
    crate.name = f"Lineage of {chain.name}"
    crate.description = (
        f"{chain.name}, made by {', '.join(record.stage for _, _, record in steps)}, and what it came from"
    )
    crate.datePublished = steps[-1][2].ended
    published = [source for one in chain.generations() for source in one.sources]
    licences = dict.fromkeys(source.licence for source in published)
    crate.license = " ".join(f"{one}." for one in licences) or "none"
    crate.root_dataset["conformsTo"] = {"@id": PROFILE}
    crate.add(ContextEntity(crate, PROFILE, {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}))
    contents: dict[str, Any] = {path: _payload(root, crate, chain, path) for path in chain.targets}
    sources = {(source.file, source.sha256): crate.add(_source(crate, source)) for source in published}
    places = {id(one): "parent/" * age for age, one in enumerate(chain.generations())}
    actions = [_action(crate, places[id(one)], one, step, record, contents, sources) for one, step, record in steps]
    crate.root_dataset["mentions"] = actions
    crate.write(folder)


def _payload(root: Path, crate: ROCrate, chain: Chain, path: str) -> Any:
    """What was asked for, copied into the crate."""
    full = root / path
    step = chain.maker(path)
    artifact = step.artifact(path) if step else None
    if not chain.here or not full.exists():
        raise DataError(f"{path} is not in the workspace: dvc checkout")
    facts = _facts(artifact) if artifact else {"name": path}
    return (
        crate.add_dataset(full, path, properties=facts)
        if full.is_dir()
        else crate.add_file(full, path, properties=facts)
    )


def _facts(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.path,
        "sha256": artifact.sha256,
        "identifier": f"md5:{artifact.md5}",
        "contentSize": str(artifact.size),
    }


def _source(crate: ROCrate, source: Source) -> ContextEntity:
    facts = {
        "@type": "CreativeWork",
        "name": source.file,
        "url": source.origin,
        "license": source.licence,
        "sha256": source.sha256,
    }
    known = {key: value for key, value in facts.items() if value}
    return ContextEntity(crate, source.origin if "://" in source.origin else f"#source/{source.file}", known)


def _action(
    crate: ROCrate,
    place: str,
    chain: Chain,
    step: Step,
    record: Record,
    contents: dict[str, Any],
    sources: dict[tuple[str, str | None], Any],
) -> Any:
    """One execution: what ran, on what, when; `place` tells those of a parent from the chain's own."""
    published = [sources[source.file, source.sha256] for source in chain.sources_of(step)]
    from_parent = [contents[f"{place}parent/{path}"] for path in brought(chain, step)]
    tool = crate.add(
        ContextEntity(
            crate,
            f"#tool/{place}{record.stage}",
            {
                "@type": "SoftwareApplication",
                "name": record.command,
                "softwareVersion": record.code.commit or "no git",
                "softwareRequirements": f"Python {record.machine.python}",
            },
        )
    )
    text = io.StringIO(json.dumps(record.model_dump(), indent=2, ensure_ascii=False) + "\n")
    facts = {"name": f"Lineage record of {record.stage}", "encodingFormat": "application/json"}
    entry = crate.add_file(text, f"{RECORDS}/{place}{record.stage}.json", properties=facts)
    action = crate.add_action(
        tool,
        f"#run/{record.digest}",
        object=[*(_content(crate, place, one, contents) for one in record.inputs), *published, *from_parent],
        result=[_content(crate, place, one, contents) for one in record.outputs],
        properties={"name": record.stage, "startTime": record.started, "endTime": record.ended},
    )
    action["subjectOf"] = entry
    return action


def _content(crate: ROCrate, place: str, artifact: Artifact, contents: dict[str, Any]) -> Any:
    """What is not in the crate is described by its hashes."""
    name = f"{place}{artifact.path}"
    if name not in contents:
        entity = ContextEntity(crate, f"#content/{name}", {"@type": "CreativeWork", **_facts(artifact)})
        contents[name] = crate.add(entity)
    return contents[name]
