"""`transformer serve`: a model folder behind HTTP, with a page to try it."""

import argparse
from functools import partial
from pathlib import Path

from transformer.cli.arguments import DEFAULT_MODEL, Commands, check_model, number
from transformer.cli.output import write_out
from transformer.errors import ParamsError, UserError

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def add(commands: Commands) -> None:
    """Its options."""
    command = commands.add_parser(
        "serve",
        help="translate over HTTP, with a page to try it",
        description="Translate over HTTP: POST /translate, /healthz, /metrics, and a page at /.",
        epilog="When the folder, or what a link leads to, changes, the new model is loaded without a request lost. "
        "SIGTERM ends it when all that was asked is answered.",
    )
    command.set_defaults(run=serve)
    option, shown = command.add_argument, "(default: %(default)s)"
    option("model", nargs="?", type=Path, default=DEFAULT_MODEL, metavar="MODEL", help=f"model folder {shown}")
    option("--host", default="127.0.0.1", metavar="ADDRESS", help=f"others than loopback need a key {shown}")
    option("--port", type=number(int, 0, 65535), default=8000, metavar="N", help=f"0: any free one {shown}")
    named = "a name that the server is called by besides 127.0.0.1 and localhost; may be given again"
    option("--name", action="append", default=[], metavar="HOST", help=named)
    key = "holds the key that requests must show (Authorization: Bearer KEY); or set TRANSFORMER_API_KEY"
    option("--key-file", type=Path, metavar="FILE", help=key)
    engine = "what searches; auto: ctranslate2 with an export as MODEL or beside it, else torch"
    option("--engine", choices=["auto", "torch", "ctranslate2"], default="auto", help=f"{engine} {shown}")
    option("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help=shown)
    option("--precision", choices=["auto", "fp32", "bf16"], help="of the matrix products (default: the model's own)")


def serve(options: argparse.Namespace) -> None:
    """`transformer serve`: until SIGTERM or Ctrl-C.

    Raises:
        ParamsError: the address can't be had, or others could use it without a key.
        DataError: the model folder or the key's file is missing or malformed.
        UserError: a package is not installed.
    """
    check_model(options.model, "on the command line")
    if options.precision and options.engine == "ctranslate2":
        raise ParamsError("--precision is of the engine torch: an export has the one of its --quantization")
    _check_packages()
    from transformer.serving.app import served  # here, as torch takes seconds to import
    from transformer.serving.key import api_key
    from transformer.serving.metrics import Metrics
    from transformer.serving.model import WatchedModel, about_engine, load_served
    from transformer.serving.server import LOOPBACK, address_of, listening, run

    key, metrics = api_key(options.key_file), Metrics()
    if options.host not in LOOPBACK and key is None:
        raise ParamsError(f"--host {options.host} lets other machines in: name a --key-file, or stay on 127.0.0.1")
    with listening(options.host, options.port) as server:
        load = partial(load_served, device=options.device, precision=options.precision, engine=options.engine)
        model = WatchedModel(options.model, load, metrics)
        app = served(model, metrics, key, options.name)
        languages, name = model.current.languages, model.current.name
        about = f"{languages.source} to {languages.target}, {options.model}, sha256 {name[:12]}"
        engine = about_engine(model.current)
        run(app, server, lambda: write_out(f"{address_of(server)}  {about}; Ctrl-C stops\n{engine}\n"))


def _check_packages() -> None:
    from importlib.util import find_spec

    if missing := [name.replace("_", "-") for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f"transformer serve needs {', '.join(missing)}: pip install {' '.join(missing)}")
