"""Keeps a copy of the champion where a link leads to: `python -m flows.promotion.follow models/champion --every 10`.

`transformer serve models/champion` knows nothing of MLflow: it loads the model again when the link has moved. Each
version lies beside the link, whole before the link leads to it, and the one of before stays.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from mlflow.exceptions import MlflowException

from flows.checkout.workspace import PARAMS, model_name, tracking_uri
from flows.lineage.run_store import ALIAS
from flows.promotion.model_files import fetched
from flows.promotion.registered_model import RegisteredModel, Version, errors_in_one_line
from transformer.errors import DataError, ParamsError, UserError
from transformer.files import files_below, locked, sha256_of, sync, sync_folder
from transformer.params import load_params
from transformer.stopping import handle_stop_signals

KEPT = 2  # versions beside the link: the champion, and the one of before
DOWNLOAD = ".download-"  # what a folder is called that is not whole yet


class ChampionLink:
    """A link to the model folder of the champion."""

    def __init__(self, link: Path, registered: RegisteredModel) -> None:
        """Raises ParamsError: something else is there."""
        self.link, self.registered = link, registered
        self.versions = link.with_name(f"{link.name}.versions")
        if link.exists() and not link.is_symlink():
            raise ParamsError(f"{link} is there and no link: name a place where nothing is")

    def update(self) -> str | None:
        """Have it lead to the champion of now; returns one line for the user, None where it does already.

        Raises:
            DataError: there is no champion, or its files are missing or not those that were registered.
            MlflowException: the registry does not answer.
        """
        champion = self.registered.champion()
        if champion is None:
            raise DataError(f"{self.registered.name} has no {ALIAS}: python -m flows.promotion --to VERSION")
        folder = self.versions / f"{champion.number}-{champion.sha256[:12]}"
        if self.link.is_symlink() and self.link.resolve() == folder.resolve() and folder.is_dir():
            return None
        self.versions.mkdir(parents=True, exist_ok=True)
        with locked(self.versions):
            self._bring(champion, folder)
            former = self._switch(folder)
            self._remove_others(folder, former)
        return f"{self.link} is version {champion.number} of {self.registered.name}, sha256 {champion.sha256[:12]}"

    def _bring(self, champion: Version, folder: Path) -> None:
        if folder.is_dir() and sha256_of(folder) == champion.sha256:
            return
        with tempfile.TemporaryDirectory(prefix=DOWNLOAD, dir=self.versions) as temporary:
            try:
                found = fetched(
                    self.registered.uri, self.registered.name, champion.number, champion.sha256, Path(temporary)
                )
            except UserError as error:
                raise DataError(f"version {champion.number} of {self.registered.name}: {error}") from None
            for file in files_below(found):
                with file.open("rb") as stream:
                    sync(stream.fileno())
            if folder.exists():  # damaged
                shutil.rmtree(folder)
            found.replace(folder)
            sync_folder(self.versions)

    def _switch(self, folder: Path) -> Path | None:
        """Returns where the link led to."""
        former = self.link.resolve() if self.link.is_symlink() else None
        new = self.link.with_name(f".{self.link.name}.{os.getpid()}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(Path(self.versions.name, folder.name), target_is_directory=True)
        new.replace(self.link)
        sync_folder(self.link.parent)
        return former

    def _remove_others(self, folder: Path, former: Path | None) -> None:
        kept = {folder.resolve(), former}
        others = [one for one in self.versions.iterdir() if one.resolve() not in kept]
        others.sort(key=lambda one: one.stat().st_mtime_ns, reverse=True)
        for other in others[max(KEPT - len(kept - {None}), 0) :]:
            shutil.rmtree(other, ignore_errors=True)
            if not other.name.startswith(DOWNLOAD):
                print(f"removed {other}, a former champion", flush=True)


def follow(champion: ChampionLink, seconds: float) -> None:
    """Update it every so many seconds; what goes wrong is told once, and tried again."""
    told = ""
    while True:
        try:
            line = champion.update() or ""
            if line or told.startswith("warning"):
                print(line or f"{champion.link} is up to date again", flush=True)
            told = ""
        except (UserError, MlflowException, OSError) as error:
            problem = f"warning: {' '.join(str(error).split())[:300]}; {champion.link} stays as it is"
            if problem != told:
                print(problem, file=sys.stderr, flush=True)
            told = problem
        time.sleep(seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.promotion.follow", description="A link to the model folder of the champion."
    )
    parser.add_argument("link", type=Path, help="the link, models/champion say; versions lie in LINK.versions")
    parser.add_argument("--model", help="registered model (default: the direction of params.yaml)")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="go on, and look again every so often")
    options = parser.parse_args()
    if options.every is not None and not 0.1 <= options.every <= 86400:
        raise ParamsError(f"--every {options.every}: must be from 0.1 to 86400 seconds")
    return options


def main() -> None:
    """Read the options and update the link, once or until a signal comes."""
    handle_stop_signals(signal.default_int_handler)
    with suppress(KeyboardInterrupt), errors_in_one_line():
        options = _options()
        name = options.model or model_name(load_params(Path(PARAMS)).languages)
        champion = ChampionLink(options.link, RegisteredModel(tracking_uri(), name))
        if options.every:
            follow(champion, options.every)
        print(champion.update() or f"{options.link} is the champion already")


if __name__ == "__main__":
    main()
