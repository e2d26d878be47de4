"""Whom a candidate has to beat where there is no champion, or none any more; what is done by hand is noticed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from retrainings import MODEL, Retrainings

from flows.promotion.settle import Answer
from flows.retraining.drift import notice_champion


def decisions(retrainings: Retrainings) -> list[tuple[str, str, str | None]]:
    return [(event.version, event.decision, event.champion) for event in retrainings.registry.history()]


def champion(retrainings: Retrainings) -> str | None:
    found = retrainings.registry.champion()
    return found.number if found else None


def test_the_first_champion_is_the_best_registered_model(retrainings: Retrainings) -> None:
    retrainings.translate(retrainings.candidate(20), retrainings.candidate(0), retrainings.candidate(10))
    settlement = retrainings.settle(retrainings.candidate(40))
    assert decisions(retrainings) == [("2", "promoted", "2"), ("4", "refused", "2")]
    assert "significantly below version 2's" in settlement.event.reason
    assert "the best on the candidate's test set" in retrainings.registry.history()[0].reason
    better = retrainings.settle(replace(retrainings.candidate(1), flow_run="again"))
    assert better.former is not None
    assert better.former.number == "2"


def test_a_degenerate_model_is_no_first_champion(retrainings: Retrainings) -> None:
    best = retrainings.candidate(0)
    (test,) = best.tests.values()
    empty = replace(test, hypotheses=[*test.hypotheses[:40], *[""] * 20])
    retrainings.translate(replace(best, tests={"tiny": empty}))
    assert retrainings.settle(retrainings.candidate(50)).event.reason == "no champion yet"


@pytest.mark.parametrize("rule", ["never", "manual"])
def test_only_an_automatic_retraining_names_the_first_champion(retrainings: Retrainings, rule: str) -> None:
    retrainings.translate(retrainings.candidate(0))
    settlement = retrainings.settle(
        retrainings.candidate(0 if rule == "never" else 1),
        rule,
        lambda: Answer(False, "rejected", "no"),  # type: ignore[arg-type]
    )
    assert champion(retrainings) is None
    assert settlement.event.decision == ("not promoted" if rule == "never" else "rejected")


def test_without_any_model_the_committed_results_have_to_be_beaten(retrainings: Retrainings) -> None:
    committed = retrainings.candidate(0)
    retrainings.client.delete_model_version(MODEL, committed.version.number)
    settlement = retrainings.settle(replace(retrainings.candidate(40), committed=committed.tests))
    assert settlement.event.decision == "refused"
    assert "significantly below the committed reports/metrics.json's 100.00" in settlement.event.reason
    assert champion(retrainings) is None


def test_a_champion_without_its_alias_still_has_to_be_beaten(retrainings: Retrainings) -> None:
    retrainings.settle(retrainings.candidate(0))
    retrainings.client.delete_registered_model_alias(MODEL, "champion")
    settlement = retrainings.settle(retrainings.candidate(40))
    assert settlement.event.decision == "refused"
    assert "(the champion, version 1, has lost its alias in MLflow)" in settlement.event.reason
    assert decisions(retrainings) == [
        ("1", "promoted", "1"),
        ("1", "alias removed by hand", None),
        ("2", "refused", None),
    ]
    assert retrainings.settle(replace(retrainings.candidate(0), flow_run="again")).event.decision == "promoted"


def test_for_a_deleted_champion_the_one_before_stands_in(retrainings: Retrainings) -> None:
    for wrong in (20, 0):
        retrainings.settle(retrainings.candidate(wrong))
    retrainings.client.delete_model_version(MODEL, "2")
    worse, better = retrainings.candidate(50), retrainings.candidate(10)
    assert "significantly below version 1's" in retrainings.settle(worse).event.reason
    settlement = retrainings.settle(better)
    assert settlement.event.decision == "promoted"
    assert settlement.event.reason.endswith("(the champion, version 2, was deleted in MLflow)")
    assert ("2", "deleted by hand", None) in decisions(retrainings)


def test_with_no_former_champion_left_a_person_has_to_decide(retrainings: Retrainings) -> None:
    retrainings.settle(retrainings.candidate(30))
    retrainings.client.delete_model_version(MODEL, "1")
    settlement = retrainings.settle(retrainings.candidate(0))
    assert settlement.event.decision == "refused"
    assert settlement.event.reason.startswith(
        "the champion, version 1, was deleted in MLflow and no earlier one can be"
    )
    asked = retrainings.settle(
        replace(retrainings.candidate(0), flow_run="again"),
        "manual",
        lambda: Answer(True, "rejected", "approved by hand"),
    )
    assert asked.event.decision == "promoted"
    assert "was deleted in MLflow" in retrainings.asked[0].reason


def test_what_is_done_to_the_alias_by_hand_is_kept_once(retrainings: Retrainings) -> None:
    for wrong in (20, 0):
        retrainings.settle(retrainings.candidate(wrong))
    assert retrainings.registry.notice() is None
    retrainings.client.set_registered_model_alias(MODEL, "champion", "1")
    noticed = retrainings.registry.notice()
    assert noticed is not None
    assert (noticed.version, noticed.decision, noticed.champion) == ("1", "moved by hand", "1")
    assert noticed.reason.startswith("noticed: done in MLflow itself since 2")
    assert retrainings.registry.notice() is None


def test_the_nightly_check_notices_it_too(retrainings: Retrainings, tmp_path: Path) -> None:
    uri = retrainings.registry.uri
    assert notice_champion(retrainings.main, uri, MODEL) is None
    retrainings.settle(retrainings.candidate(0))
    retrainings.client.delete_registered_model_alias(MODEL, "champion")
    event = notice_champion(retrainings.main, uri, MODEL)
    assert event is not None
    assert (event.version, event.decision) == ("1", "alias removed by hand")
    assert notice_champion(retrainings.main, "http://127.0.0.1:9", MODEL) is None  # nobody answers
    assert notice_champion(tmp_path / "new", f"sqlite:///{tmp_path}/new/mlflow.db", MODEL) is None
    assert not (tmp_path / "new").exists()


def test_mlflow_offers_no_deletion_of_the_version_in_use(retrainings: Retrainings) -> None:
    for wrong in (20, 0):
        retrainings.settle(retrainings.candidate(wrong))
    stages = {one.version: one.current_stage for one in retrainings.client.search_model_versions(f"name = '{MODEL}'")}
    # Its page has deletion switched off for the stages Staging and Production, and for nothing else.
    assert {str(number): stage for number, stage in stages.items()} == {"1": "None", "2": "Production"}


@pytest.mark.parametrize("damage", ["emptied", "truncated", "another's", "one word"])
def test_translations_that_differ_from_what_was_kept_do_not_count(retrainings: Retrainings, damage: str) -> None:
    for wrong in (0,):
        retrainings.settle(retrainings.candidate(wrong))
    (path,) = (retrainings.main / "work" / "translations").rglob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    damaged = {
        "emptied": [{**row, "hypothesis": ""} for row in rows],
        "truncated": rows[:-1],
        "another's": [{**row, "hypothesis": row["source"]} for row in rows],
        "one word": [{**rows[0], "hypothesis": f"{rows[0]['hypothesis']} x"}, *rows[1:]],
    }[damage]
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in damaged))
    # The version in this registry has no files, so that translating again is what fails.
    with pytest.raises(Exception, match="version 1 of transformer-en-de can't translate the test sets"):
        retrainings.settle(retrainings.candidate(40))
    assert champion(retrainings) == "1"
