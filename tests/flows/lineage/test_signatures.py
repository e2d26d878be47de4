"""Signed records: what is signed, by an oracle of its own; every kind of forgery; the log of records."""

import base64
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tampered_project import Scene, restore
from workspace import STAGES, Workspace

from flows.lineage.chain import Chain
from flows.lineage.checks.link import Link, Status
from flows.lineage.checks.log import check_log
from flows.lineage.checks.signatures import check_signatures, policy_of
from flows.lineage.cli import main
from flows.lineage.project import Project
from flows.lineage.targets import resolve
from flows.promotion.provenance import unsigned
from flows.records.record import Record, digest_of, parse_record
from flows.signatures.attest import attest
from flows.signatures.keys import KEY_VARIABLE, generate, load_signer

RECORDS = Path("reports/lineage")
LOG = RECORDS / "log.jsonl"


def envelope(stage: str) -> Path:
    return RECORDS / f"{stage}.intoto.jsonl"


def read_record(root: Path, stage: str) -> Record:
    return parse_record((root / RECORDS / f"{stage}.json").read_bytes(), stage)


def policy(**signers: tuple[Any, list[str]]) -> str:
    """The text of a signers.yaml: name=(signer, stages)."""
    lines = [
        f'  {name}: {{key: "{one.public_key.keyval["public"]}", stages: {json.dumps(stages)}, branches: ["main"]}}\n'
        for name, (one, stages) in signers.items()
    ]
    return "signers:\n" + "".join(lines)


@pytest.fixture(scope="module")
def signed(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished project: `average` ran with a key in its environment, the others were signed later."""
    workspace = reproduced.copy_to(tmp_path_factory.mktemp("signed") / "checkout")
    key = workspace.folder.parent / "key.pem"
    signer = generate(key, workspace.folder)
    (workspace.folder / "signers.yaml").write_text(policy(alice=(signer, ["all"])))
    workspace.git("add", "signers.yaml")
    workspace.git("commit", "-qm", "who signs")
    workspace.environment[KEY_VARIABLE] = key.read_text()
    workspace.dvc("repro", "--force", "--single-item", "average")
    for stage in STAGES:
        if stage != "average":
            attest(workspace.folder, read_record(workspace.folder, stage), signer)
    workspace.send()
    workspace.git("add", ".")
    workspace.git("commit", "-qm", "results")
    workspace.run("cp", "-r", str(workspace.folder), str(workspace.folder.parent / "pristine"))
    return workspace


@pytest.fixture
def scene(signed: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    signed.enter(monkeypatch)
    scene = Scene(signed)
    yield scene
    for action in scene.undo:
        action()
    restore(signed.folder.parent / "pristine", signed.folder)


def signer_of(scene: Scene) -> Any:
    """Alice's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, str(scene.root.parent / "key.pem"))
        return load_signer()


def links(target: str | None = None) -> list[Link]:
    """What the checks of signatures and of the log say of the current folder."""
    project, chain = project_and_chain(target)
    policy, told = policy_of(project, chain.commit)
    return [*check_log(project, chain), *told, *check_signatures(project, chain, policy)]


def project_and_chain(target: str | None = None) -> tuple[Project, Chain]:
    project = Project(Path.cwd())
    return project, resolve(project, target)


def pae(envelope_of: dict[str, Any]) -> bytes:
    """DSSE's pre-authentication encoding, from its specification."""
    kind, payload = envelope_of["payloadType"].encode(), base64.b64decode(envelope_of["payload"])
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])


def test_a_stage_signs_its_record_with_the_key_of_its_environment(scene: Scene) -> None:
    key = load_pem_private_key((scene.root.parent / "key.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    content = json.loads(envelope("average").read_text())
    (signature,) = content["signatures"]
    key.public_key().verify(base64.b64decode(signature["sig"]), pae(content))  # raises, if it is not valid
    statement, record = json.loads(base64.b64decode(content["payload"])), read_record(scene.root, "average")
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    predicate = statement["predicate"]
    assert predicate["buildDefinition"]["externalParameters"]["params"] == record.params
    assert predicate["runDetails"]["metadata"]["invocationId"] == record.runs.spool
    assert record.runs.mlflow, "filled in after it was signed"
    own, line = (one["digest"]["sha256"] for one in predicate["runDetails"]["byproducts"])
    assert own == record.digest
    assert line in {hashlib.sha256(one).hexdigest() for one in LOG.read_bytes().splitlines()}


def test_subjects_and_materials_are_what_the_tools_of_others_compute(scene: Scene) -> None:
    """in-toto's own command line for a dirHash, and sha256sum."""
    payload = json.loads(base64.b64decode(json.loads(envelope("evaluate").read_text())["payload"]))
    materials = payload["predicate"]["buildDefinition"]["resolvedDependencies"]
    (commit,) = [one for one in materials if one["name"] == "git"]
    assert scene.workspace.git("cat-file", "-t", commit["digest"]["gitCommit"]).strip() == "commit"
    folder = "find . -type f ! -name '*.pyc' | cut -c3- | LC_ALL=C sort | xargs -r sha256sum"
    folder += " | sha256sum | cut -f1 -d' '"
    described = [*payload["subject"], *(one for one in materials if one is not commit)]
    assert len(described) > 10
    for one in described:
        ((kind, expected),) = one["digest"].items()
        path = Path(one["name"])
        command = folder if kind == "dirHash" else f"sha256sum {path.name} | cut -f1 -d' '"
        cwd = path if kind == "dirHash" else path.parent
        found = subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, text=True, check=True).stdout
        assert found.strip() == expected, path


def test_each_record_is_ok_by_name_everywhere_and_unsigned_nowhere(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--all", "--require-signatures"]) == 0
    printed = capsys.readouterr().out
    assert "unsigned" not in printed
    signatures = [line for line in printed.splitlines() if ": signature (" in line]
    assert {line.split(": ")[0] for line in signatures} == set(STAGES)
    assert all(line.endswith("ok: by alice") for line in signatures)
    assert any("average: signature (MLflow run" in line for line in signatures)
    assert {link.status for link in links("HEAD")} == {Status.OK}


def test_without_a_key_records_are_unsigned_in_one_word(
    reproduced: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduced.enter(monkeypatch)
    assert not list(RECORDS.glob("*.intoto.jsonl"))
    assert main(["verify"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f" ok, {len(STAGES)} unsigned, 0 missing, 0 BROKEN")
    assert main(["verify", "--require-signatures"]) == 2
    assert "train: signature (record) unsigned" in capsys.readouterr().out


def other_key(scene: Scene) -> Any:
    return generate(scene.root.parent / f"other-{time.time_ns()}.pem", scene.root)


def resigned(scene: Scene, stage: str, signer: Any) -> None:
    attest(scene.root, read_record(scene.root, stage), signer)


def edit_payload(scene: Scene) -> None:
    content = json.loads(envelope("train").read_text())
    payload = json.loads(base64.b64decode(content["payload"]))
    payload["predicate"]["runDetails"]["metadata"]["startedOn"] = "2020-01-01T00:00:00.000+00:00"
    content["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    scene.write(envelope("train"), json.dumps(content).encode())


def forged_record(scene: Scene) -> None:
    """Another seed, with a digest that fits, below the old signature."""
    scene.record("train", lambda record: record.update(seed=2), forge=True)


def claimed_key(scene: Scene) -> None:
    """Signed with another key under the name of Alice's."""
    resigned(scene, "train", other_key(scene))
    content = json.loads(envelope("train").read_text())
    content["signatures"][0]["keyid"] = signer_of(scene).public_key.keyid
    scene.write(envelope("train"), json.dumps(content).encode())


def replayed(scene: Scene) -> None:
    """The envelope of an older execution of the same stage with the same outputs."""
    older = read_record(scene.root, "train")
    content = older.model_dump()
    content["runs"]["spool"] = "20200101T000000-train-aaaaaa"
    content["started"], content["ended"] = "2020-01-01T00:00:00.000+00:00", "2020-01-01T00:01:00.000+00:00"
    del content["digest"]
    attest(scene.root, Record.model_validate({**content, "digest": digest_of(content)}), signer_of(scene))


def stripped(scene: Scene) -> None:
    """The signature is gone from everywhere, as if there had never been a key."""
    scene.workspace.git("rm", "-q", "-f", str(envelope("prepare")))
    scene.workspace.git("commit", "-q", "--amend", "-m", "results")
    scene.workspace.git("reflog", "expire", "--expire=now", "--all")


def committed_policy(scene: Scene, text: str) -> None:
    scene.write("signers.yaml", text.encode())
    scene.workspace.git("commit", "-qam", "another policy")


def drop_line(scene: Scene) -> None:
    """The last line, which no other names, and the commit that held it."""
    scene.write(LOG, b"\n".join(LOG.read_bytes().splitlines()[:-1]) + b"\n")
    scene.workspace.git("commit", "-q", "--amend", "-a", "-m", "results")


def rewrite_log(scene: Scene, stages: list[str] = STAGES) -> None:
    """All new, and chained as it should be, but signatures name the old lines."""
    scene.write(LOG, b"")
    for stage in stages:
        kept = envelope(stage).read_bytes()
        attest(scene.root, read_record(scene.root, stage), None)
        scene.write(envelope(stage), kept)


def second_record(scene: Scene) -> None:
    """A record of the same execution with another content."""
    content = read_record(scene.root, "train").model_dump()
    content["measured"]["training_seconds"] = 12345.0  # none took so long
    del content["digest"]
    attest(scene.root, Record.model_validate({**content, "digest": digest_of(content)}), signer_of(scene))


WHERE = "signature (workspace) BROKEN: "
FORGERIES: dict[str, tuple[Callable[[Scene], object], str]] = {
    "another key": (
        lambda s: resigned(s, "train", other_key(s)),
        f"train: {WHERE}signed by a key that signers.yaml does not name",
    ),
    "another key under her name": (claimed_key, f"train: {WHERE}the signature is not of alice's key"),
    "altered payload": (edit_payload, f"train: {WHERE}the signature is not of alice's key, or of another content"),
    "swapped": (
        lambda s: s.swap(s.root / envelope("train"), s.root / envelope("tokenize")),
        f"train: {WHERE}expected the stage train found tokenize",
    ),
    "replayed": (replayed, f"train: {WHERE}expected the record "),
    "forged record": (forged_record, f"train: {WHERE}expected the record "),
    "nobody's": (
        lambda s: s.write(
            envelope("train"), json.dumps({**json.loads(envelope("train").read_text()), "signatures": []}).encode()
        ),
        f"train: {WHERE}it holds no signature",
    ),
    "cut off": (
        lambda s: s.write(envelope("train"), b"{"),
        f"train: {WHERE}reports/lineage/train.intoto.jsonl is not",
    ),
    "stripped": (stripped, "prepare: signature (log) BROKEN: the log says that it was signed"),
    "key removed from the policy": (
        lambda s: committed_policy(s, policy(bob=(other_key(s), ["all"]))),
        f"train: {WHERE}signed by a key that signers.yaml does not name",
    ),
    "stage not allowed": (
        lambda s: committed_policy(s, policy(alice=(signer_of(s), ["download", "prepare"]))),
        f"train: {WHERE}alice may not sign the stage train",
    ),
    "policy malformed": (
        lambda s: committed_policy(s, "signers: {alice: {key: 12, stages: [all]}}"),
        "signers.yaml (git) BROKEN: signers.yaml: signers.alice.key = 12: ",
    ),
    "log: a line dropped": (drop_line, f"evaluate: {WHERE}the line of the log that it was signed with is gone"),
    "log: all new, without one": (
        lambda s: rewrite_log(s, STAGES[:-1]),
        "evaluate: record (log) BROKEN: expected ",
    ),
    "log: a line rewritten": (
        lambda s: s.replace(LOG.as_posix(), '"stage":"prepare"', '"stage":"parent"'),
        "reports/lineage/log.jsonl (workspace) BROKEN: before ",
    ),
    "log: removed": (
        lambda s: (s.root / LOG).unlink(),
        "reports/lineage/log.jsonl (workspace) BROKEN: 16 lines of commit ",
    ),
    "log: all new": (rewrite_log, f"train: {WHERE}the line of the log that it was signed with is gone or rewritten"),
    "log: two records of one execution": (second_record, "log.jsonl (workspace) BROKEN: "),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_broken(name: str, scene: Scene) -> None:
    forge, says = FORGERIES[name]
    forge(scene)
    told = [f"{link.stage}: " * bool(link.stage) + f"{link.what} ({link.where}) {link}" for link in links()]
    assert any(says in line for line in told), "\n".join(told)


def test_a_policy_that_is_not_committed_gives_nobody_a_right(scene: Scene) -> None:
    """Mallory names herself in the workspace, and signs."""
    mallory = other_key(scene)
    scene.write("signers.yaml", policy(mallory=(mallory, ["all"]), alice=(signer_of(scene), ["all"])).encode())
    resigned(scene, "train", mallory)
    found = {(link.stage, link.what, link.status) for link in links()}
    assert ("", "signers.yaml", Status.MISSING) in found
    assert ("train", "signature", Status.BROKEN) in found
    assert {link.status for link in links("HEAD")} == {Status.OK}  # the workspace has no say


def test_without_a_policy_nobody_says_by_whom(scene: Scene) -> None:
    scene.workspace.git("rm", "-q", "signers.yaml")
    scene.workspace.git("commit", "-qm", "no policy")
    found = {link.status: str(link) for link in links() if link.what == "signature"}
    assert found == {Status.UNSIGNED: "unsigned: signed, but there is no signers.yaml to say by whom"}


def test_an_honest_rerun_without_a_key_is_unsigned_and_not_a_forgery(scene: Scene) -> None:
    scene.workspace.environment[KEY_VARIABLE] = ""
    scene.workspace.dvc("repro", "--force", "--single-item", "export")
    assert not envelope("export").exists()
    found = links()
    assert [link.stage for link in found if link.status is Status.UNSIGNED] == ["export"]
    assert not [link for link in found if link.status is Status.BROKEN]


def test_branches_that_both_append_merge_without_a_conflict(scene: Scene) -> None:
    git, signer = scene.workspace.git, signer_of(scene)

    def execution(stage: str, number: int) -> None:
        content = read_record(scene.root, stage).model_dump()
        content["runs"]["spool"] = f"20300101T00000{number}-{stage}"
        del content["digest"]
        attest(scene.root, Record.model_validate({**content, "digest": digest_of(content)}), signer)
        git("checkout", "-q", "--", str(envelope(stage)))  # the log alone is what merges
        git("commit", "-qam", f"execution {number}")

    git("checkout", "-q", "-b", "other")
    execution("train", 1)
    git("checkout", "-q", "main")
    execution("export", 2)
    git("merge", "-q", "--no-edit", "other")
    assert not [link for link in check_log(*project_and_chain()) if link.status is Status.BROKEN]
    execution("export", 3)
    assert len(json.loads(LOG.read_text().splitlines()[-1])["previous"]) == 2
    git("merge", "-q", "--no-edit", "other")
    # Somebody settles a merge by taking one side: what the other had is missed.
    git("checkout", "-q", "other")
    git("checkout", "-q", "-b", "third", "main~1")
    git("merge", "-q", "--no-commit", "--no-ff", "-s", "ours", "main")
    git("commit", "-qm", "ours")
    broken = [str(link) for link in links("HEAD") if link.status is Status.BROKEN]
    assert any("lines of commit" in line and "(export)" in line for line in broken), broken
    # As the line says: brought back, all is well.
    how = next(line for line in broken if "lines of commit" in line).partition(": git ")[2].partition(" brings")[0]
    subprocess.run(["sh", "-c", f"git {how}"], check=True)
    git("commit", "-qam", "brought back")
    assert not [str(link) for link in links("HEAD") if link.what == LOG.as_posix() and link.status is Status.BROKEN]


def test_signing_takes_less_than_50_ms(scene: Scene) -> None:
    signer, record = signer_of(scene), read_record(scene.root, "evaluate")
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        attest(scene.root, record, signer)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05, seconds


MODEL = "transformer-en-de/1"


def test_the_gate_takes_a_model_that_is_signed_by_who_may(scene: Scene) -> None:
    assert unsigned(scene.root, scene.root, "models/averaged") is None
    assert unsigned(scene.root, scene.root, MODEL) is None


UNSIGNED: dict[str, tuple[Callable[[Scene], object], str]] = {
    "no policy": (lambda s: committed_policy(s, "signers: {}"), "download: signature (workspace) BROKEN: "),
    "a wrong policy": (lambda s: committed_policy(s, "signers: 1"), "signers.yaml is missing or wrong"),
    "forged": (forged_record, "train: signature (workspace) BROKEN: expected the record "),
    "another branch": (
        lambda s: committed_policy(s, policy(alice=(signer_of(s), ["all"])).replace('"main"', '"retraining/*"')),
        "signers.yaml lets nobody who signed average promote models of the branch 'main'",
    ),
    "a stage by nobody": (
        lambda s: s.workspace.run("sh", "-c", "git rm -q reports/lineage/*.intoto.jsonl reports/lineage/log.jsonl"),
        "download: signature",
    ),
}


@pytest.mark.parametrize("name", UNSIGNED)
def test_the_gate_refuses_what_is_not(name: str, scene: Scene) -> None:
    tamper, says = UNSIGNED[name]
    tamper(scene)
    if name == "a stage by nobody":
        scene.workspace.git("checkout", "-q", "--orphan", "all-new")
        scene.workspace.git("commit", "-qm", "all new")
        scene.workspace.git("branch", "-q", "-D", "main")
        scene.workspace.git("reflog", "expire", "--expire=now", "--all")
    told = unsigned(scene.root, scene.root, "models/averaged")
    assert told is not None
    assert told.startswith("promotion.require_signatures is true")
    assert says in told


def test_by_hand_the_champion_has_to_be_signed_too(scene: Scene) -> None:
    scene.replace("params.yaml", "require_signatures: false", "require_signatures: true")
    asked = scene.workspace.run("python", "-m", "flows.promotion", "--dry-run")
    assert " would be promoted: not significantly worse" in asked
    committed_policy(scene, "signers: {}")
    asked = scene.workspace.run("python", "-m", "flows.promotion", "--dry-run")
    assert "would be refused: promotion.require_signatures is true: download: signature (workspace) BROKEN" in asked
    asked = scene.workspace.run("python", "-m", "flows.promotion", "--to", "1", succeeds=False)
    assert "error: version 1 may not be champion: promotion.require_signatures is true: " in asked
    assert "Traceback" not in asked
