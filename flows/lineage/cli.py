"""The `lineage` command.

    lineage show      [TARGET] [--json | --mermaid | --html FILE]   the chain back to the published sources
    lineage verify    [TARGET] [--json | --html FILE] [--all] [--offline]
                                                                    every hash of it computed again
    lineage diff      A B [--json]                                  data, params, code, environment, scores
    lineage reproduce TARGET [--keep]                               run its stages again and compare the outputs
    lineage export    [TARGET] --format openlineage|prov|ro-crate --output PATH
    lineage accept    STAGE|PATH --reason TEXT                      an edit of its code changes no result
    lineage keygen    [NAME] [--output FILE]                        a key that signs the records of stages

TARGET is a model folder, a file, an MLflow run, a model version (NAME/NUMBER, NAME@ALIAS), a git revision or one of
DVC's experiments; without one, everything in the workspace's dvc.lock. The exit status of `verify` and `reproduce` is
0 if every link is ok, 1 if some could not be checked and 2 if some are broken; other problems give 3 or more.
`--offline` leaves out what is where this clone can't look, and says in the last line how much that is.
"""

import argparse
import getpass
import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from flows.checkout.workspace import LOCK
from flows.lineage.accept import accept
from flows.lineage.chain import Chain
from flows.lineage.checks.link import Link, Status, missing
from flows.lineage.checks.verify import exit_status, verify
from flows.lineage.page import page
from flows.lineage.project import Project, UnfinishedError
from flows.lineage.reproduce import reproduce
from flows.lineage.show import as_json, mermaid, tree
from flows.lineage.targets import resolve
from flows.signatures.keys import default_key_file, generate
from flows.signatures.policy import POLICY, entry
from transformer.errors import ExitCode, ParamsError, UserError
from transformer.files import write_text

PIPE_COLUMNS = 1000
ALWAYS_COUNTED = (Status.OK, Status.MISSING, Status.BROKEN)
COLOURS = {
    Status.OK: "green",
    Status.ACCEPTED: "cyan",
    Status.UNSIGNED: "magenta",
    Status.MISSING: "yellow",
    Status.BROKEN: "bold red",
    Status.CHANGED: "cyan",
    Status.LEFT_OUT: "dim",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except UserError as error:
        print(f"lineage: {error}", file=sys.stderr)
        return max(error.exit_code, ExitCode.BAD_DATA)  # 1 and 2 are results of `verify`
    except OSError as error:
        print(f"lineage: {error.filename}: {error.strerror}", file=sys.stderr)
        return ExitCode.BAD_DATA


def _show(options: argparse.Namespace) -> int:
    chain = resolve(Project(Path.cwd()), options.target)
    if options.json:
        print(json.dumps(as_json(chain), indent=2, ensure_ascii=False))
    elif options.mermaid:
        print(mermaid(chain), end="")
    elif options.html:
        write_text(options.html, page(chain))
    else:
        _console().print(tree(chain))
    return ExitCode.OK


def _verify(options: argparse.Namespace) -> int:
    project = Project(Path.cwd())
    try:
        chain = resolve(project, options.target)
        links = verify(project, chain, options.offline)
    except UnfinishedError as error:
        chain, links = Chain("the workspace", []), [missing("", LOCK, "workspace", str(error))]
    if options.html:
        write_text(options.html, page(chain, links))
    if options.json:
        print(json.dumps([vars(link) for link in links], indent=2, ensure_ascii=False))
    else:
        _print_links(links, options.all, options.require_signatures)
    return exit_status(links, options.require_signatures)


def _diff(options: argparse.Namespace) -> int:
    from flows.lineage.diff import diff, difference_json, print_difference  # pyarrow, sacrebleu: only here

    project = Project(Path.cwd())
    found = diff(project, resolve(project, options.a), resolve(project, options.b))
    if options.json:
        print(json.dumps(difference_json(found), indent=2, ensure_ascii=False))
    else:
        print_difference(_console(), found)
    return ExitCode.OK


def _reproduce(options: argparse.Namespace) -> int:
    project = Project(Path.cwd())
    links = reproduce(project, resolve(project, options.target), options.keep)
    _print_links(links, all_of_them=True)
    return exit_status(links)


def _export(options: argparse.Namespace) -> int:
    project = Project(Path.cwd())
    chain = resolve(project, options.target)
    if options.format == "ro-crate":
        from flows.lineage.export.ro_crate import ro_crate

        ro_crate(project.root, chain, options.output)
        return ExitCode.OK
    if options.format == "prov":
        from flows.lineage.export.prov import prov as exported
    else:
        from flows.lineage.export.openlineage import openlineage as exported
    if not options.output.absolute().parent.is_dir():
        raise ParamsError(f"there is no folder {options.output.parent} for {options.output.name}: make it first")
    write_text(options.output, exported(chain))
    return ExitCode.OK


def _accept(options: argparse.Namespace) -> int:
    project = Project(Path.cwd())
    for line in accept(project, resolve(project, None), options.what, options.reason):
        print(line)
    return ExitCode.OK


def _keygen(options: argparse.Namespace) -> int:
    path = options.output or default_key_file()
    signer = generate(path, Path.cwd())
    print(f"{path}: the private key, which signs what runs here from now on; {POLICY} gets what others need:")
    print(f"signers:\n{entry(options.name, signer.public_key)}")
    return ExitCode.OK


def _console() -> Console:
    """The terminal at its own width; in a pipe lines are not cut."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def _print_links(links: list[Link], all_of_them: bool, unsigned: bool = False) -> None:
    """Those that are ok, and without `unsigned` those that nobody ever signed, are counted only."""
    console = _console()
    for link in links:
        if all_of_them or not link.only_counts or (unsigned and link.status is Status.UNSIGNED):
            stage = f"{link.stage}: " if link.stage else ""
            console.print(Text.assemble(f"{stage}{link.what} ({link.where}) ", (str(link), COLOURS[link.status])))
    counts = {status: sum(link.status is status for link in links) for status in Status}
    shown = [status for status in Status if counts[status] or status in ALWAYS_COUNTED]
    console.print(
        ", ".join(f"[{COLOURS[status]}]{counts[status]} {status}[/]" for status in shown) + _left_out(links)
    )


def _left_out(links: list[Link]) -> str:
    """What `--offline` left out, with counts; nothing if it was nothing."""
    counts = Counter(link.beyond for link in links if link.status is Status.LEFT_OUT)
    return ": " * bool(counts) + ", ".join(escape(f"{count} {beyond}") for beyond, count in counts.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lineage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="the chain back to the published sources")
    show.add_argument("target", nargs="?")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--mermaid", action="store_true")
    form.add_argument("--html", type=Path, metavar="FILE", help="write a page with the graph")
    show.set_defaults(run=_show)
    check = commands.add_parser("verify", help="compute every hash of the chain again")
    check.add_argument("target", nargs="?")
    check.add_argument("--json", action="store_true")
    check.add_argument("--html", type=Path, metavar="FILE", help="write a page with the graph and each verdict, too")
    check.add_argument("--all", action="store_true", help="print the links that are ok, too")
    check.add_argument("--require-signatures", action="store_true", help="an unsigned record counts as a broken link")
    check.add_argument(
        "--offline", action="store_true", help="leave out, and count, what is where this clone can't look"
    )
    check.set_defaults(run=_verify)
    compare = commands.add_parser("diff", help="what differs between two models")
    compare.add_argument("a")
    compare.add_argument("b")
    compare.add_argument("--json", action="store_true")
    compare.set_defaults(run=_diff)
    again = commands.add_parser("reproduce", help="run the stages again from the commit and compare the outputs")
    again.add_argument("target")
    again.add_argument("--keep", action="store_true", help="leave the worktree behind")
    again.set_defaults(run=_reproduce)
    export = commands.add_parser("export", help="the chain in a format of others")
    export.add_argument("target", nargs="?")
    export.add_argument("--format", required=True, choices=["openlineage", "prov", "ro-crate"])
    export.add_argument("--output", required=True, type=Path, help="a file; for ro-crate a new folder")
    export.set_defaults(run=_export)
    answer = commands.add_parser("accept", help="answer for that an edit of code changes no result")
    answer.add_argument("what", metavar="STAGE|PATH")
    answer.add_argument("--reason", required=True, help="why, for whoever reads it in a year")
    answer.set_defaults(run=_accept)
    key = commands.add_parser("keygen", help="make a key that signs the records of stages")
    key.add_argument("name", nargs="?", default=getpass.getuser(), help="the signer's, by default the user's")
    key.add_argument("--output", type=Path, metavar="FILE", help=f"by default {default_key_file()}")
    key.set_defaults(run=_keygen)
    return parser
