"""The signing key: an ed25519 private key in PEM, in a file outside the repository or in an environment variable."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.errors import ParamsError
from transformer.files import OWNER_ONLY

# Imported where there is something to sign or verify: securesystemslib imports the clouds' libraries that it finds.
if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

KEY_VARIABLE = "TRANSFORMER_SIGNING_KEY"  # a file's path or the PEM itself; empty: nothing is signed
PEM = "-----BEGIN"


def default_key_file() -> Path:
    """Below the user's configuration, where no checkout and no container image picks it up."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder, "attention-pipeline", "signing-key.pem")


def load_signer() -> "CryptoSigner | None":
    """What signs in this process; None where no key is configured.

    Raises:
        ParamsError: one is, and can't be read. The message never quotes the variable, which may be the key.
    """
    named = os.environ.get(KEY_VARIABLE)
    if named == "":
        return None
    if named and PEM in named:
        return _parsed(named.replace("\\n", "\n").encode(), KEY_VARIABLE)
    path = Path(named).expanduser() if named else default_key_file()
    where = f"the file that {KEY_VARIABLE} names" if named else str(path)
    try:
        return _parsed(path.read_bytes(), where)
    except FileNotFoundError:
        if not named:
            return None
        raise ParamsError(f"{where} is not there: lineage keygen makes a key; empty, nothing is signed") from None
    except OSError as error:  # also of a name that is too long for one
        raise ParamsError(f"{where} can't be read: {error.strerror}") from None
    except ValueError:  # a NUL in its name
        raise ParamsError(f"{KEY_VARIABLE} is neither a path nor a key in PEM") from None


def take_signer() -> "CryptoSigner | None":
    """As `load_signer`; a key in the environment is not left there for the processes that this one starts."""
    signer = load_signer()
    if PEM in os.environ.get(KEY_VARIABLE, ""):
        del os.environ[KEY_VARIABLE]
    return signer


def _parsed(content: bytes, where: str) -> "CryptoSigner":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ParamsError(f"{where} holds no ed25519 private key in PEM without a password: lineage keygen makes one")
    return CryptoSigner(key)


def generate(path: Path, checkout: Path) -> "CryptoSigner":
    """Write a new key that only its owner can read.

    Raises:
        ParamsError: there is a file already, or `path` lies in the checkout, where it would be committed.
    """
    from securesystemslib.signer import CryptoSigner

    if path.resolve().is_relative_to(checkout.resolve()):
        raise ParamsError(f"{path} is inside the checkout, where a key gets committed: name a path outside")
    signer = CryptoSigner.generate_ed25519()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    except FileExistsError:
        raise ParamsError(f"{path} is there already, and what it has signed needs it: name another path") from None
    with open(descriptor, "wb") as stream:
        stream.write(signer.private_bytes)
    return signer


def public_key(code: str) -> "SSlibKey":
    """The key that 64 hexadecimal digits stand for.

    Raises:
        ValueError: they stand for none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey

    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(code)))
