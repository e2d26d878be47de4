"""Where a signing key comes from, what is said of one that can't be read, and where it never gets to."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from workspace import Workspace

from flows.lineage.cli import main
from flows.signatures.keys import KEY_VARIABLE, default_key_file, load_signer, take_signer
from flows.signatures.policy import parse_policy
from transformer.errors import DataError, ParamsError

STAGES = ["download", "prepare", "train"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a key, in a checkout."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(KEY_VARIABLE)
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    return tmp_path


def test_keygen_writes_a_key_for_its_owner_and_prints_what_signers_yaml_gets(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_signer() is None
    assert main(["keygen", "alice"]) == 0
    path = home / "config" / "attention-pipeline" / "signing-key.pem"
    assert path == default_key_file()
    assert path.stat().st_mode & 0o777 == 0o600
    printed = capsys.readouterr().out
    policy = parse_policy(printed.partition("\n")[2].encode(), "signers.yaml", STAGES)
    key = load_pem_private_key(path.read_bytes(), None)
    assert policy.signers["alice"].key == key.public_key().public_bytes_raw().hex()  # type: ignore[union-attr]
    assert path.read_text() not in printed
    signer = load_signer()
    assert signer is not None
    assert signer.public_key.keyval["public"] == policy.signers["alice"].key


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (None, "is there already, and what it has signed needs it: name another path"),
        ("key.pem", "key.pem is inside the checkout, where a key gets committed: name a path outside"),
        ("../checkout/work/key.pem", "is inside the checkout"),
    ],
)
def test_keygen_refuses(home: Path, output: str | None, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keygen"])
    before = default_key_file().read_bytes()
    assert main(["keygen", *(["--output", output] if output else [])]) > 2
    error = capsys.readouterr().err
    assert error.startswith("lineage: ")
    assert says in error
    assert error.count("\n") == 1
    assert default_key_file().read_bytes() == before
    assert not list((home / "checkout").rglob("*.pem"))


def test_a_key_from_the_environment_is_taken_out_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(["keygen"])
    for text in (default_key_file().read_text(), default_key_file().read_text().replace("\n", "\\n")):
        monkeypatch.setenv(KEY_VARIABLE, text)
        assert take_signer() is not None
        assert KEY_VARIABLE not in os.environ
    monkeypatch.setenv(KEY_VARIABLE, str(default_key_file()))
    assert take_signer() is not None
    monkeypatch.setenv(KEY_VARIABLE, "")  # though there is a key file
    assert take_signer() is None


def encrypted(_: Path) -> str:
    key = load_pem_private_key(default_key_file().read_bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


def elliptic(_: Path) -> str:
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def headless(_: Path) -> str:
    """A key whose first and last lines were forgotten: it must not be quoted as the name of a file."""
    return default_key_file().read_text().splitlines()[1]


WRONG = {
    "no file": (lambda home: str(home / "none.pem"), "the file that TRANSFORMER_SIGNING_KEY names is not there"),
    "a folder": (str, "the file that TRANSFORMER_SIGNING_KEY names can't be read: Is a directory"),
    "cut off": (
        lambda _: default_key_file().read_text()[:70],
        "TRANSFORMER_SIGNING_KEY holds no ed25519 private key",
    ),
    "with a password": (encrypted, "TRANSFORMER_SIGNING_KEY holds no ed25519 private key in PEM without a password"),
    "another kind": (elliptic, "TRANSFORMER_SIGNING_KEY holds no ed25519 private key"),
    "without its frame": (headless, "the file that TRANSFORMER_SIGNING_KEY names is not there"),
    "too long for a path": (lambda _: "x" * 5000, "can't be read: File name too long"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_key_that_cannot_be_read_is_one_line_that_does_not_quote_it(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["keygen"])
    value, says = WRONG[name]
    text = value(home)
    monkeypatch.setenv(KEY_VARIABLE, text)
    with pytest.raises(ParamsError) as error:
        load_signer()
    assert says in str(error.value)
    assert text not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_key_stops_before_the_work_and_puts_the_outputs_back(reproduced: Workspace, tmp_path: Path) -> None:
    workspace = reproduced.copy_to(tmp_path / "checkout")
    (tmp_path / "key.pem").write_text("no key")
    workspace.environment[KEY_VARIABLE] = str(tmp_path / "key.pem")
    told = workspace.run("dvc", "repro", "--force", "--single-item", "train", succeeds=False)
    assert "error: the file that TRANSFORMER_SIGNING_KEY names holds no ed25519 private key" in told
    assert "Traceback" not in told
    assert (workspace.folder / "models/checkpoints/index.json").exists()
    assert "update " not in told


POLICIES = {
    "signers: {alice: {key: 1, stages: [all]}}": "signers.yaml: signers.alice.key = 1: input should be a",
    f"signers: {{alice: {{key: '{'0' * 63}g', stages: [all]}}}}": "64 hexadecimal digits are expected",
    f"signers: {{alice: {{key: '{'0' * 62}', stages: [all]}}}}": "64 hexadecimal digits are expected",
    f"signers: {{alice: {{key: '{'0' * 64}', stages: [trian]}}}}": (
        "signers.yaml: signers.alice.stages: dvc.yaml has no stage trian; did you mean train?"
    ),
    f"signers: {{alice: {{key: '{'0' * 64}', stages: [all], branch: [main]}}}}": (
        "signers.yaml: signers.alice.branch is not a key; allowed here: key, stages, branches"
    ),
    f"signers: {{alice: {{key: '{'0' * 64}'}}}}": "signers.yaml: signers.alice.stages is missing",
    f"signers:\n  a: {{key: '{'0' * 64}', stages: [all]}}\n  b: {{key: '{'0' * 64}', stages: [all]}}": (
        "signers.yaml: a and b have the same key"
    ),
    "": "signers.yaml: signers is missing",
    "signers:\n  a: {\n": "signers.yaml, line 3: not YAML",
    "signers:\n  a: 1\n": "signers.yaml: signers.a = 1: a section is expected",
}


@pytest.mark.parametrize("text", POLICIES)
def test_a_wrong_policy_is_one_line(text: str) -> None:
    with pytest.raises(DataError) as error:
        parse_policy(text.encode(), "signers.yaml", STAGES)
    assert POLICIES[text] in str(error.value)
    assert "\n" not in str(error.value)
