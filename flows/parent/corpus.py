"""The corpus that a parent was trained on, by the hashes in its lineage, from wherever DVC keeps it."""

from pathlib import Path

from flows.checkout.workspace import CORPUS
from flows.lineage.chain import Chain, files_of
from flows.lineage.project import Project
from transformer.errors import DataError
from transformer.files import atomic_path

WANTED_BY = {"train": "preparation.mix", "valid": "training.forgetting_limit"}


def bring_corpus(project: Project, chain: Chain | None, name: str, splits: list[str], target: Path) -> None:
    """Copy these splits of the parent's corpus.

    Raises:
        DataError: its lineage is not known, or no copy is left.
    """
    target.mkdir(parents=True, exist_ok=True)
    for split in splits:
        file = f"{split}.parquet"
        md5 = files_of(project, chain, CORPUS).get(file) if chain else None
        content = project.content(f"{CORPUS}/{file}", md5) if md5 else None
        if content is None:
            reason = "is no longer in DVC's cache or remote (dvc fetch --all-commits)" if md5 else "is not known"
            raise DataError(f"{WANTED_BY[split]} wants {CORPUS}/{file} of {name}, which {reason}")
        with atomic_path(target / file) as temporary:
            temporary.write_bytes(content)
