"""Whether the Prefect server that is configured answers, and takes our key: asked before any work starts."""

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from transformer.errors import UserError


def check_server_access() -> None:
    """Does nothing where no server is configured, or where it lets us in.

    Raises:
        UserError: the server does not answer, or wants a key that we have not got.
    """
    url = get_current_settings().api.url
    if url is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.request("GET", "/admin/version").raise_for_status()
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UserError(
                f"Prefect at {url} asks for its key: export PREFECT_API_AUTH_STRING=$(cat work/prefect/key) in the "
                f"checkout where `make serve` runs (status {status})"
            ) from None
        raise UserError(f"Prefect at {url} answers with status {status}") from None
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"Prefect at {url} does not answer ({reason}): start it (make serve), or unset PREFECT_API_URL"
        ) from None
