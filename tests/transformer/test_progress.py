"""What long work says of itself where no terminal shows a bar, and how the log is read back."""

import logging

import pytest

from transformer.progress import TrainingLine, display

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
