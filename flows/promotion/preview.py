"""What the gate would decide, with nothing changed: `python -m flows.promotion --dry-run`."""

from pathlib import Path

from rich.table import Table

from flows.checkout.workspace import MODEL, WORK, main_workspace
from flows.promotion.gate import Check
from flows.promotion.provenance import demanded
from flows.promotion.registered_model import RegisteredModel, Version
from flows.promotion.settle import Candidate, compare, conclude
from flows.promotion.translations import TranslationCache, committed, evaluated, search_of
from transformer.errors import DataError
from transformer.files import sha256_of
from transformer.params import Params

UNREGISTERED = "?"


def preview(
    registered: RegisteredModel, number: str | None, params: Params, significance: float
) -> tuple[str, Table]:
    """Compare a version, or else the workspace's own model, as a retraining would: a sentence and all numbers.

    Raises:
        ParamsError: there is no such version.
        DataError: the workspace has no evaluation, or it is not the one that dvc.lock names.
        UserError: the version or the champion can't translate.
    """
    main = main_workspace()
    tests = evaluated(Path(), params.evaluation.test_sets)
    search = search_of(Path(), params)
    cache = TranslationCache(main / WORK / "translations", registered, search)
    if number:
        version = registered.version(number)
        tests = cache.of(version, tests, keep=False)
    else:
        if not Path(MODEL).is_dir():
            raise DataError(f"{MODEL} is missing: run make repro, or name a version with --to")
        sha256 = sha256_of(Path(MODEL))
        version = registered.find(sha256) or Version(UNREGISTERED, sha256)
    results = committed(main, "HEAD", Path(), tests)
    candidate = Candidate(
        version,
        tests,
        params.languages.target,
        branch="",
        commit="",
        flow_run="",
        search=search,
        committed=results,
        bleu_tokenizer=params.evaluation.bleu_tokenizer,
        unsigned=demanded(params.promotion, main, Path(), registered.name),
    )
    rival, decision = compare(candidate, cache, significance, keep=False)
    word, reason = conclude(candidate, rival, decision, "auto", None)
    name = MODEL if version.number == UNREGISTERED else f"version {version.number}"
    if rival and rival.first:
        reason += f"; {rival.name} would be the first champion"
    return f"{name} would be {word}: {reason}", _table(decision.checks, rival.name if rival else "nothing yet")


def _table(checks: list[Check], rival: str) -> Table:
    table = Table("test set", "check", "candidate", "rival", "p", "limit", "", caption=f"rival: {rival}")
    for check in checks:
        numbers = (check.candidate, check.champion, check.p_value, check.limit)
        shown = ("" if number is None else f"{number:.4g}" for number in numbers)
        table.add_row(check.test_set, check.name, *shown, "ok" if check.passed else "fails")
    return table
