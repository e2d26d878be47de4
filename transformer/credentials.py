"""Passwords in addresses: what is shown, logged or recorded has none."""

import re

_USER = re.compile(r"(?<=://)[^\s/]*@")
_QUERY = re.compile(
    r"([?&][\w-]*(?:password|passwd|token|secret|signature|credential|key|sig)=)[^&\s'\"]+", re.IGNORECASE
)


def without_credentials(text: str) -> str:
    """The text with users, passwords and secrets in queries taken out of every address in it."""
    return _QUERY.sub(r"\1...", _USER.sub("", text))
