"""The `transformer` command.

    transformer translate [FILE] [--model FOLDER]… [--beam N] [--alpha A] [--nbest N] [--json]
                          [--prefix TEXT | --prefixes FILE] [--protect KIND,…] [--long-lines cut|split]
                          [--sample [--seed N] [--temperature T] [--top-k K]]
    transformer attention "SENTENCE" --out FOLDER [--target "TRANSLATION"] [--layer N] [--head N]

Each command is a module here, with its options and what it does.
"""

import logging
import os
import signal
import sys

from transformer.cli import attention, translate
from transformer.cli.arguments import Parser
from transformer.errors import ExitCode, UserError, trouble_of_the_machine


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status, after a one-line message on stderr where it is not zero."""
    logging.basicConfig(level=logging.WARNING, format="transformer: %(message)s", stream=sys.stderr)
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except UserError as error:
        print(f"transformer: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader has closed the pipe. Python flushes stdout at exit and would complain, so it goes nowhere now.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"transformer: {trouble_of_the_machine(error) or error}", file=sys.stderr)
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return ExitCode.OK


def _parser() -> Parser:
    parser = Parser(prog="transformer", description="Translate with a trained Transformer.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (translate, attention):
        command.add(commands)
    return parser
