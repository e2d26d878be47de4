"""A registered model in MLflow: its versions by content, the alias `champion`, and a history of the decisions."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from flows.checkout.workspace import WORK
from flows.tracking.model_description import DECISION, with_part
from flows.tracking.model_description import decision as decision_in_words
from transformer.errors import ParamsError
from transformer.files import locked

ALIAS = "champion"
PREFIX = "promotion."


@dataclass(frozen=True)
class Version:
    """A registered model: its number, and the SHA-256 of its model folder."""

    number: str
    sha256: str


@dataclass(frozen=True)
class Event:
    """A decision about a version; `champion` is the champion from then on."""

    time: str  # UTC
    version: str
    decision: str
    reason: str
    champion: str | None


def deciding(main: Path) -> AbstractContextManager[bool]:
    """Hold the main workspace's lock on the champion during the body, so that only one decision is made at a time."""
    path = main / WORK / "promotion.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return locked(path)


class RegisteredModel:
    """One registered model of a tracking server, with its versions."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri = uri
        self.name = name
        self._client = MlflowClient(tracking_uri=uri)

    def find(self, sha256: str) -> Version | None:
        """The newest version with this content."""
        found = self._client.search_model_versions(f"name = '{self.name}' and tags.sha256 = '{sha256}'")
        newest = max(found, key=lambda version: int(version.version), default=None)
        return _version(newest) if newest else None

    def version(self, number: str) -> Version:
        """The version of this number.

        Raises:
            ParamsError: there is none; lists those that are there.
        """
        versions = self._client.search_model_versions(f"name = '{self.name}'")
        numbers = sorted((str(version.version) for version in versions), key=int)
        if not numbers:
            raise ParamsError(f"{self.name} has no versions at {self.uri}: run a retraining, or `make repro`")
        if number not in numbers:
            raise ParamsError(f"{self.name} has no version {number}; those there: {', '.join(numbers)}")
        return next(_version(version) for version in versions if str(version.version) == number)

    def champion(self) -> Version | None:
        """The version with the alias."""
        try:
            return _version(self._client.get_model_version_by_alias(self.name, ALIAS))
        except MlflowException as error:
            # Without the alias the answer is INVALID_PARAMETER_VALUE, without the model RESOURCE_DOES_NOT_EXIST.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def set_champion(self, version: Version) -> None:
        """Move the alias."""
        self._client.set_registered_model_alias(self.name, ALIAS, version.number)

    def record(self, version: Version, decision: str, reason: str, details: dict[str, Any]) -> Event:
        """Add a decision to the history; tag the version with it and with its details, in their order."""
        champion = self.champion()
        time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        event = Event(time, version.number, decision, reason, champion.number if champion else None)
        self._client.set_registered_model_tag(self.name, f"{PREFIX}{time}", json.dumps(asdict(event)))
        for key, value in {"event": asdict(event), "decision": decision, "reason": reason, **details}.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._client.set_model_version_tag(self.name, version.number, f"{PREFIX}{key}", text)
        former = self._client.get_model_version(self.name, version.number).description
        described = with_part(former, DECISION, decision_in_words(asdict(event), details))
        self._client.update_model_version(self.name, version.number, described)
        return event

    def recorded(self, version: Version) -> dict[str, str]:
        """The tags that the last `record` left on the version, `event` among them."""
        tags = self._client.get_model_version(self.name, version.number).tags
        return {key.removeprefix(PREFIX): value for key, value in tags.items() if key.startswith(PREFIX)}

    def history(self) -> list[Event]:
        """Every decision about the model, oldest first."""
        try:
            tags = self._client.get_registered_model(self.name).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
        return [Event(**json.loads(value)) for key, value in sorted(tags.items()) if key.startswith(PREFIX)]


def _version(found: ModelVersion) -> Version:
    return Version(str(found.version), found.tags.get("sha256", ""))
