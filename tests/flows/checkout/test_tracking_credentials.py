"""A password in an address moves to where MLflow reads it, or is refused; no message shows it."""

import pytest

from flows.checkout.tracking_credentials import checked_address, move_credentials
from flows.checkout.workspace import tracking_uri
from transformer.credentials import without_credentials
from transformer.errors import DownloadError, ParamsError

MOVED = [
    ("http://bob:hunter2@host:5000/a", "http://host:5000/a", {"USERNAME": "bob", "PASSWORD": "hunter2"}),
    ("https://b%40b:p%2Fw%3A@[::1]:5000", "https://[::1]:5000", {"USERNAME": "b@b", "PASSWORD": "p/w:"}),
    ("http://bob:a@b@host", "http://host", {"USERNAME": "bob", "PASSWORD": "a@b"}),
    ("postgresql+psycopg2://bob:hunter2@host/mlflow", "postgresql+psycopg2://bob@host/mlflow", {"PG": "hunter2"}),
    ("http://host:5000", "http://host:5000", {}),
    ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db", {}),
    ("file:///a b/@", "file:///a b/@", {}),
]


@pytest.mark.parametrize(("address", "bare", "moved"), MOVED)
def test_a_password_moves_out_of_the_address(
    address: str, bare: str, moved: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"MLFLOW_TRACKING_URI": address}
    move_credentials(environment)
    variables = {"PGPASSWORD" if name == "PG" else f"MLFLOW_TRACKING_{name}": value for name, value in moved.items()}
    assert environment == {"MLFLOW_TRACKING_URI": bare, **variables}
    move_credentials(environment)  # as a child process does, again
    assert environment == {"MLFLOW_TRACKING_URI": bare, **variables}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bare)
    assert tracking_uri() == bare


def test_what_a_person_has_set_counts() -> None:
    environment = {
        "MLFLOW_TRACKING_URI": "http://a:b@host",
        "MLFLOW_TRACKING_USERNAME": "x",
        "MLFLOW_TRACKING_PASSWORD": "y",
    }
    move_credentials(environment)
    assert environment["MLFLOW_TRACKING_USERNAME"] == "x"


@pytest.mark.parametrize(
    "address",
    [
        "http://t0ken@host",
        "mysql://bob:t0ken@host/db",
        "postgresql://host/db?user=bob&password=t0ken",
        "http://host/?api_key=t0ken",
    ],
)
def test_a_secret_that_cannot_move_is_refused_without_being_told(address: str) -> None:
    environment = {"MLFLOW_TRACKING_URI": address}
    move_credentials(environment)
    with pytest.raises(ParamsError, match="MLFLOW_TRACKING_URI holds a password") as refused:
        checked_address(environment["MLFLOW_TRACKING_URI"])
    assert "t0ken" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://bob:pw@host/x failed, see https://u:p@h", "GET http://host/x failed, see https://h"),
        (
            "s3://host/?X-Amz-Signature=abc&x=1 'http://h/?token=t'",
            "s3://host/?X-Amz-Signature=...&x=1 'http://h/?token=...'",
        ),
        ("me@example.org http://host/a@b", "me@example.org http://host/a@b"),
        ("models:/transformer-en-de@champion", "models:/transformer-en-de@champion"),
        ("http://bob:p@ss@host", "http://host"),
    ],
)
def test_texts_lose_passwords_and_nothing_else(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert str(DownloadError(text)) == shown
