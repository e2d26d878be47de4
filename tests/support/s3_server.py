"""An S3 stand-in on loopback: moto's server, which speaks the protocol over HTTP and keeps objects in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer


class S3Server:
    """A running stand-in, and the environment that makes AWS clients talk to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "MLFLOW_S3_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def create(self, bucket: str) -> None:
        """Create a bucket."""
        self._client().create_bucket(Bucket=bucket)

    def replace(self, bucket: str, key: str, content: bytes | None) -> None:
        """Put another content in an object's place, or none."""
        if content is None:
            self._client().delete_object(Bucket=bucket, Key=key)
        else:
            self._client().put_object(Bucket=bucket, Key=key, Body=content)

    def objects(self, bucket: str) -> dict[str, int]:
        """Key -> bytes of every object."""
        listed = self._client().list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"]: item["Size"] for item in listed}


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve until the end of the body."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()
