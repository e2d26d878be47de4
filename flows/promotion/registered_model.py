"""A registered model in MLflow: its versions by content, the alias `champion`, and a history of the decisions."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from flows.checkout.workspace import WORK, tracking_uri
from flows.lineage.run_store import ALIAS, DECISIONS
from flows.tracking.model_description import DECISION, with_part
from flows.tracking.model_description import decision as decision_in_words
from transformer.errors import ParamsError, UserError
from transformer.files import locked, private_folder


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


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """For commands: what the user or the registry did wrong ends the process with one line and an exit status."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MlflowException as error:
        sys.exit(f"error: MLflow at {tracking_uri()}: {' '.join(str(error).split())[:200]}")


def deciding(main: Path) -> AbstractContextManager[bool]:
    """Hold the main workspace's lock on the champion during the body, so that only one decision is made at a time."""
    path = main / WORK / "promotion.lock"
    private_folder(path.parent)
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
        versions = {version.number: version for version in reversed(self.versions())}
        if not versions:
            raise ParamsError(f"{self.name} has no versions at {self.uri}: run a retraining, or `make repro`")
        if number not in versions:
            raise ParamsError(f"{self.name} has no version {number}; those there: {', '.join(versions)}")
        return versions[number]

    def versions(self) -> list[Version]:
        """Every version, newest first."""
        found = self._client.search_model_versions(f"name = '{self.name}'")
        return [_version(one) for one in sorted(found, key=lambda one: int(one.version), reverse=True)]

    def champion(self) -> Version | None:
        """The version with the alias."""
        try:
            return _version(self._client.get_model_version_by_alias(self.name, ALIAS))
        except MlflowException as error:
            # Without the alias the answer is INVALID_PARAMETER_VALUE, without the model RESOURCE_DOES_NOT_EXIST.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def former_champions(self) -> list[str]:
        """The numbers of all that the history calls champion, the last one first; they may have been deleted."""
        return list(dict.fromkeys(event.champion for event in reversed(self.history()) if event.champion))

    def set_champion(self, version: Version) -> None:
        """Move the alias; MLflow's page then offers no deletion of the new champion, and again one of the former."""
        former = self.champion()
        self._client.set_registered_model_alias(self.name, ALIAS, version.number)
        if former and former != version:
            self._set_stage(former, "None")
        self._set_stage(version, "Production")

    def _set_stage(self, version: Version, stage: str) -> None:
        """MLflow's older word for what a version is for: all that it protects from deletion, and only on its page."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._client.transition_model_version_stage(self.name, version.number, stage)

    def tag(self, version: Version, key: str, value: str) -> None:
        """Tag a version."""
        self._client.set_model_version_tag(self.name, version.number, key, value)

    def tags(self, version: Version) -> dict[str, str]:
        """A version's tags."""
        return dict(self._client.get_model_version(self.name, version.number).tags)

    def notice(self) -> Event | None:
        """Add to the history what was done to the alias in MLflow itself since the last entry, if anything was."""
        history, now = self.history(), self.champion()
        known = history[-1].champion if history else None
        number = now.number if now else None
        if number == known:
            return None
        there = {version.number for version in self.versions()}
        gone = "deleted by hand" if known not in there else "alias removed by hand"
        decision = (f"{'moved' if known else 'set'} by hand") if number else gone
        reason = (
            f"noticed: done in MLflow itself since {history[-1].time[:16].replace('T', ' ')}"
            if history
            else "noticed"
        )
        return self._remember(number or str(known), decision, reason, number)

    def record(self, version: Version, decision: str, reason: str, details: dict[str, Any]) -> Event:
        """Add a decision to the history; tag the version with it and with its details, in their order."""
        champion = self.champion()
        event = self._remember(version.number, decision, reason, champion.number if champion else None)
        for key, value in {"event": asdict(event), "decision": decision, "reason": reason, **details}.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._client.set_model_version_tag(self.name, version.number, f"{DECISIONS}{key}", text)
        former = self._client.get_model_version(self.name, version.number).description
        described = with_part(former, DECISION, decision_in_words(asdict(event), details))
        self._client.update_model_version(self.name, version.number, described)
        return event

    def _remember(self, number: str, decision: str, reason: str, champion: str | None) -> Event:
        time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        event = Event(time, number, decision, reason, champion)
        self._client.set_registered_model_tag(self.name, f"{DECISIONS}{time}", json.dumps(asdict(event)))
        return event

    def recorded(self, version: Version) -> dict[str, str]:
        """The tags that the last `record` left on the version, `event` among them."""
        tags = self.tags(version).items()
        return {key.removeprefix(DECISIONS): value for key, value in tags if key.startswith(DECISIONS)}

    def history(self) -> list[Event]:
        """Every decision about the model, oldest first."""
        try:
            tags = self._client.get_registered_model(self.name).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
        return [Event(**json.loads(value)) for key, value in sorted(tags.items()) if key.startswith(DECISIONS)]


def _version(found: ModelVersion) -> Version:
    return Version(str(found.version), found.tags.get("sha256", ""))
