"""From candidates to champions in a real MLflow registry; translations of earlier champions come from the cache."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from retrainings import Retrainings

from flows.promotion.registered_model import RegisteredModel
from flows.promotion.report import COLUMNS, append_line, markdown
from flows.promotion.settle import Answer
from transformer.errors import ParamsError


def test_champions_follow_one_another_and_worse_ones_do_not(retrainings: Retrainings) -> None:
    decided = []
    for wrong in (30, 0, 40, 0):
        settlement = retrainings.settle(retrainings.candidate(wrong))
        champion = retrainings.registry.champion()
        assert champion is not None
        event = settlement.event
        decided.append((event.decision, event.champion == event.version, champion.number))
    assert decided == [
        ("promoted", True, "1"),
        ("promoted", True, "2"),
        ("refused", False, "2"),
        ("unchanged", False, "2"),
    ]
    history = retrainings.registry.history()
    assert [(event.version, event.champion) for event in history] == [("1", "1"), ("2", "2"), ("3", "2"), ("4", "2")]
    assert history[0].reason == "no champion yet"
    assert "significantly below" in history[2].reason


def test_never_compares_and_moves_nothing(retrainings: Retrainings) -> None:
    retrainings.settle(retrainings.candidate(30))
    settlement = retrainings.settle(retrainings.candidate(0), "never")
    assert (settlement.event.decision, settlement.event.champion) == ("not promoted", "1")
    assert {check.name for check in settlement.checks} >= {"bleu", "chrf", "empty"}


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        (Answer(True, "rejected", "approved by hand"), "promoted"),
        (Answer(False, "rejected", "rejected by hand: no"), "rejected"),
        (Answer(False, "expired", "nobody answered in time"), "expired"),
    ],
)
def test_a_person_decides(retrainings: Retrainings, answer: Answer, decision: str) -> None:
    retrainings.settle(retrainings.candidate(30))
    settlement = retrainings.settle(retrainings.candidate(0), "manual", lambda: answer)
    assert settlement.event.decision == decision
    assert (settlement.event.champion == settlement.event.version) == answer.approved
    assert settlement.event.reason == f"{answer.reason}; the gate says: not significantly worse, no guard fails"


def test_nobody_is_asked_about_a_model_that_the_gate_refuses(retrainings: Retrainings) -> None:
    retrainings.settle(retrainings.candidate(0))
    assert retrainings.settle(retrainings.candidate(30), "manual").event.decision == "refused"
    assert retrainings.asked == []


def test_an_approval_does_not_undo_what_another_retraining_did_meanwhile(retrainings: Retrainings) -> None:
    retrainings.settle(retrainings.candidate(40))
    candidate, better = retrainings.candidate(30), retrainings.candidate(0)

    def meanwhile() -> Answer:
        retrainings.settle(better)
        return Answer(True, "rejected", "approved by hand")

    settlement = retrainings.settle(candidate, "manual", meanwhile)
    assert settlement.event.decision == "refused"
    assert settlement.former == better.version
    assert retrainings.registry.champion() == better.version


def test_settling_again_after_a_crash_changes_nothing(retrainings: Retrainings) -> None:
    candidate = retrainings.candidate(0)
    first = retrainings.settle(candidate)
    assert retrainings.settle(candidate) == first
    assert len(retrainings.registry.history()) == 1


def test_the_table_grows_by_a_line(retrainings: Retrainings, tmp_path: Path) -> None:
    table = tmp_path / "reports" / "promotions.csv"
    for wrong in (30, 0):
        candidate = retrainings.candidate(wrong)
        settlement = retrainings.settle(candidate)
        for _again in range(2):  # as after a crash
            append_line(table, candidate, settlement)
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert tuple(lines[0]) == COLUMNS
    assert [(line["version"], line["decision"], line["champion"]) for line in lines] == [
        ("1", "promoted", ""),
        ("2", "promoted", "1"),
    ]
    assert lines[0]["bleu"] == ""
    assert float(lines[1]["bleu"]) > float(lines[1]["champion_bleu"])
    text = markdown("Title", settlement.event.reason, settlement.checks, candidate.version, settlement.former)
    assert text.startswith("# Title\n\nCandidate: version 2; champion: version 1.\n\n**not significantly worse")
    assert "| tiny | bleu | 100 |" in text


def test_versions_are_found_by_content_and_by_number(retrainings: Retrainings) -> None:
    registry = retrainings.registry
    with pytest.raises(ParamsError, match="transformer-en-de has no versions at sqlite:"):
        registry.version("1")
    assert registry.champion() is None
    assert registry.history() == []
    versions = [retrainings.candidate(wrong).version for wrong in (1, 2, 1)]
    assert registry.find(versions[0].sha256) == versions[2]
    assert registry.find("0" * 64) is None
    assert registry.version("2") == versions[1]
    with pytest.raises(ParamsError, match="has no version 4; those there: 1, 2, 3"):
        registry.version("4")
    unknown = RegisteredModel(registry.uri, "transformer-en-fr")
    assert (unknown.champion(), unknown.history()) == (None, [])


def test_a_model_that_is_not_signed_as_demanded_never_gets_the_alias(retrainings: Retrainings) -> None:
    retrainings.settle(retrainings.candidate(30))
    better = replace(retrainings.candidate(0), unsigned=lambda _: "nobody signed it")
    for rule in ("auto", "manual"):
        settlement = retrainings.settle(better, rule)  # nobody is asked
        assert (settlement.event.decision, settlement.event.champion) == ("refused", "1")
        assert settlement.event.reason.startswith("nobody signed it; its scores: not significantly worse")


def test_nor_does_the_first_of_the_registered_models(retrainings: Retrainings) -> None:
    best = retrainings.candidate(0)
    retrainings.translate(best)
    worse = replace(retrainings.candidate(30), unsigned=lambda one: "unsigned" if one == best.version else None)
    assert retrainings.settle(worse).event.decision == "refused"
    assert retrainings.registry.champion() is None
