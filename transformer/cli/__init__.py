"""The `transformer` command.

    transformer translate [FILE] [--model FOLDER]… [--beam N] [--alpha A] [--nbest N] [--json]
                          [--prefix TEXT | --prefixes FILE] [--protect KIND,…] [--long-lines cut|split]
                          [--sample [--seed N] [--temperature T] [--top-k K]] [--engine torch|ctranslate2]
    transformer score SOURCE TARGET [--model FOLDER] [--alpha A] [--details | --json]
    transformer export [MODEL] --to ctranslate2|huggingface [--quantization Q] [--out FOLDER]
    transformer attention "SENTENCE" --out FOLDER [--target "TRANSLATION"] [--layer N] [--head N]
    transformer serve [MODEL] [--port N] [--host ADDRESS] [--name HOST]… [--key-file FILE]

Each command is a module here, with its options and what it does.
"""

import argparse
import logging
import os
import signal
import sys

from transformer.cli import attention, export, score, serve, translate
from transformer.cli.arguments import Parser
from transformer.cli.output import check_output, complain
from transformer.errors import ExitCode, UserError, trouble_of_the_machine

STATUSES = """\
exit status, with one line on stderr where it is not 0:
  0    done, or the reader of stdout has closed the pipe
  1    the output can't be written, or the machine is in trouble
  2    a wrong option or value
  3    the input or the model is missing, malformed or can't be read; what came before it has been written
  6    the device's memory does not hold a batch
  130  interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status, after a one-line message on stderr where it is not zero."""
    if sys.stderr is None:  # closed by the caller, `2>&-`: messages must not go to what is opened in its place
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    logging.basicConfig(level=logging.WARNING, format="transformer: %(message)s", stream=sys.stderr)
    try:
        check_output()
        options = _parser().parse_args(arguments)
        options.run(options)
    except UserError as error:
        complain(str(error))
        return error.exit_code
    except BrokenPipeError:  # the reader of stdout has enough
        return ExitCode.OK
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        complain(str(trouble_of_the_machine(error) or where))
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return ExitCode.OK


def _parser() -> Parser:
    parser = Parser(
        prog="transformer",
        description="Translate with a trained Transformer.",
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (translate, score, attention, export, serve):
        command.add(commands)
    return parser
