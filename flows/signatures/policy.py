"""signers.yaml: whose key may sign the records of which stages, and models of which branches may become champion."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, ValidationError, model_validator

from flows.signatures.keys import public_key
from transformer.errors import DataError
from transformer.section import Names, Section, did_you_mean, in_words
from transformer.yaml12 import InvalidYamlError, parse_yaml

if TYPE_CHECKING:  # see keys.py
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

POLICY = "signers.yaml"
ALL = "all"


def _is_key(code: str) -> str:
    try:
        public_key(code)
    except ValueError:
        raise ValueError("64 hexadecimal digits are expected, as lineage keygen prints them") from None
    return code


class SignerEntry(Section):
    """One signer."""

    key: Annotated[str, AfterValidator(_is_key)]
    stages: Names  # [all]: every one
    branches: list[str] = Field(default=[], description="Patterns, for instance retraining/*")

    def may_sign(self, stage: str) -> bool:
        """Whether the records of this stage are this signer's business."""
        return ALL in self.stages or stage in self.stages

    def may_promote(self, branch: str) -> bool:
        """Whether a model of this branch may become the champion by this signer's word."""
        return any(fnmatchcase(branch, pattern) for pattern in self.branches)


class Policy(Section):
    """All of signers.yaml."""

    signers: dict[str, SignerEntry]

    @model_validator(mode="after")
    def _keys_differ(self) -> "Policy":
        names: dict[str, str] = {}
        for name, entry in self.signers.items():
            if (other := names.setdefault(entry.key, name)) != name:
                raise ValueError(f"{other} and {name} have the same key: whose signature would it be?")
        return self

    def signer_of(self, envelope: "Envelope") -> str:
        """The name of who signed the envelope.

        Raises:
            DataError: nobody did whom the policy names, or a signature is forged.
        """
        from securesystemslib.exceptions import UnverifiedSignatureError

        if not envelope.signatures:
            raise DataError("it holds no signature")
        keys = {key.keyid: (name, key) for name, entry in self.signers.items() for key in [public_key(entry.key)]}
        for keyid, signature in envelope.signatures.items():
            if keyid not in keys:
                continue
            name, key = keys[keyid]
            try:
                key.verify_signature(signature, envelope.pae())
            except UnverifiedSignatureError:
                raise DataError(f"the signature is not of {name}'s key, or of another content") from None
            return name
        named = ", ".join(f"{keyid[:10]}…" for keyid in envelope.signatures)
        raise DataError(f"signed by a key that {POLICY} does not name (key id {named})")


def parse_policy(text: bytes, origin: str, stages: list[str]) -> Policy:
    """Check the text of a signers.yaml of a pipeline with these stages; `origin` names it in errors.

    Raises:
        DataError: one line that names the file, the key or line, and what is allowed.
    """
    try:
        policy = Policy.model_validate(parse_yaml(text, origin) or {})
    except InvalidYamlError as error:
        raise DataError(str(error)) from None
    except ValidationError as error:
        allowed = f"allowed here: {', '.join(SignerEntry.model_fields)}; at the top: signers"
        raise DataError(f"{origin}: {in_words(error, lambda _: allowed)}") from None
    for name, entry in policy.signers.items():
        if unknown := [stage for stage in entry.stages if stage not in (ALL, *stages)]:
            meant = did_you_mean(unknown[0], [ALL, *stages])
            raise DataError(f"{origin}: signers.{name}.stages: dvc.yaml has no stage {unknown[0]}{meant}")
    return policy


def entry(name: str, key: "SSlibKey") -> str:
    """The lines of a signer in signers.yaml who may sign and promote everything."""
    return f'  {name}: {{key: "{key.keyval["public"]}", stages: [{ALL}], branches: ["*"]}}'
