"""What long work says of itself where no terminal shows a bar, and how the log is read back."""

import logging

import pytest

from transformer.progress import TrainingLine, chunk_progress, display

METRICS = {
    "loss": 2.5,
    "learning_rate": 0.001,
    "target_tokens_per_second": 12345.6,
    "seconds_per_update": 2.0,
    "data_wait_share": 0.1,
    "model_flops_utilization": 0.42,
}


def test_the_line_that_training_logs_is_read_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with display(updates=4700, done=0) as shown:
        shown.training(50, METRICS)
        shown.message("validation at update 50: loss 2.5")
    training, validation = (record.getMessage() for record in caplog.records)
    figures = "loss 2.500  ppl 12.2  lr 1.00e-03  12,346 tokens/s  MFU 42.0%  data wait 10.0%  ETA 2:35:00"
    assert training == f"update 50/4700  {figures}"
    assert TrainingLine.read(f"12:00:00 {training}") == (50, 4700, figures)
    assert TrainingLine.read(validation) is None


def test_what_an_interrupted_run_left_says_nothing_of_the_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    reports = {0: 651, 20: 661, 40: 671, 41: 672, 60: 691, 80: 711, 100: 731, 120: 751}
    seconds = iter(reports)
    monkeypatch.setattr("transformer.progress.time.monotonic", lambda: next(seconds))
    with chunk_progress("encode train", 1000) as shown:
        for reached in reports.values():
            shown(reached)
    assert [record.getMessage() for record in caplog.records] == [
        "encode train: 1000 chunks",
        "encode train: 661 chunks of 1000 chunks, 0.5 chunks a second, about 678 s left",
        "encode train: 671 chunks of 1000 chunks, 0.5 chunks a second, about 658 s left",
        "encode train: 691 chunks of 1000 chunks, 0.7 chunks a second, about 464 s left",
        "encode train: 711 chunks of 1000 chunks, 0.8 chunks a second, about 385 s left",
        "encode train: 731 chunks of 1000 chunks, 0.8 chunks a second, about 336 s left",
        "encode train: 751 chunks of 1000 chunks, 0.9 chunks a second, about 277 s left",
    ]
