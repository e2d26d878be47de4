"""Valid input, damaged at random, for everything that reads what may come from outside: `python fuzzing.py TARGET …`.

A target writes its input into a folder and reads it with the project's code; all that may come out is a `UserError`
of one line. The process may die or hang, like any program that reads damaged data in C: whoever started it finds the
input in the folder.
"""

import bz2
import gzip
import io
import json
import lzma
import random
import resource
import shutil
import signal
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import zstandard
from marked_up import message, parquet, po, sgm, tmx, trans_unit, unit, wmt_xml, xliff
from tiny_inputs import CHECKOUT
from tiny_model import write_tiny_model

from flows.records.dvc_files import parse_definition
from flows.records.record import parse_record
from flows.tracking.spool import Spool
from transformer.data.download.archive import extract
from transformer.data.download.chosen import chosen_corpora
from transformer.data.download.corpora import Corpus, load_corpora
from transformer.data.download.download import needed_files
from transformer.data.download.transfer import catalogue_languages
from transformer.data.parts import PARTS_FILE, Format, Part, read_parts, write_parts
from transformer.data.prepare.prepare import read_part
from transformer.errors import UserError
from transformer.files import files_below
from transformer.model.device import select_device
from transformer.model.folder import load_model, read_config
from transformer.params import DownloadParams, LanguageParams, parse_params, read_decoding

HANG_SECONDS = 20  # in which a few kilobytes are read on any machine
MEMORY_BYTES = 6 << 30
PAIRS = [(f"The light number {n} is on.", f"Das Licht {n} ist an.") for n in range(40)]
INTERESTING = [
    b"\0", b"\xff", b"\n", b"\r", b"\t", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"..", b"/", b"../../x", b"/etc/passwd",
    b"-1", b"1e999", b"NaN", b"null", b"{}", b"[]", b'"', b"'", b":", b"- ", b"&a", b"*a", b"<seg>",
    b"!!python/object:os.system", b"</doc>", b"\xe2\x80\xa8", b"99999999999999999999", b"true", b"%",
    b"{language}", b"\\ud800", b"<<: ",
]  # fmt: skip


def damaged(content: bytes, random_: random.Random) -> bytes:
    """`content` with one to eight changes: bits, bytes, pieces gone, doubled, swapped, put in, or the end cut off."""
    new = bytearray(content)
    for _ in range(random_.choice([1, 1, 1, 2, 3, 8])):
        at = random_.randrange(len(new) + 1)
        end = min(len(new), at + random_.choice([1, 2, 4, 16, 200]))
        match random_.randrange(7):
            case 0 if at < len(new):
                new[at] ^= 1 << random_.randrange(8)
            case 1:
                new[at:end] = random_.randbytes(end - at)
            case 2:
                del new[at:end]
            case 3:
                new[at:at] = new[at:end] * random_.choice([1, 2, 50])
            case 4:
                new[at:at] = random_.choice(INTERESTING)
            case 5:
                new[at:end] = random_.choice(INTERESTING)
            case 6 if random_.random() < 0.3:
                del new[at:]
    return bytes(new)


def _ignored(_: int) -> None:
    pass


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _samples() -> dict[Format, tuple[list[bytes], str, str]]:
    """Of each format: its files (one or two), and the fields of source and target."""
    sides = [[pair[side] for pair in PAIRS] for side in (0, 1)]
    marked = [[f"{text} &amp; &lt;b&gt;" for text in side] for side in sides]
    table = pyarrow.table(dict(zip(("en", "de"), sides, strict=True)))
    objects = [json.dumps({"id": 1, "of": {"en": source, "de": target}}) for source, target in PAIRS]
    members = {
        f"c/{name}/{language}.json": json.dumps({"a": {"b": side, "c": name}}).encode()
        for name in ("x", "y")
        for language, side in zip(("en", "de"), sides, strict=True)
    }
    texts = {
        "tsv": "".join(f"{source}\t{target}\n" for source, target in PAIRS),
        "jsonl": "\n".join(objects),
        "tmx": tmx("".join(map(unit, *marked))),
        "xliff": xliff("".join(map(trans_unit, range(len(PAIRS)), *marked))),
        "po": po("".join(message(*pair) for pair in PAIRS)),
        "wmt-xml": wmt_xml(),
    }
    fields = {"tsv": ("0", "1"), "jsonl": ("of.en", "of.de"), "po": ("msgid", "msgstr")}
    return {
        "lines": (["".join(f"{text}\n" for text in side).encode() for side in sides], "", ""),
        "sgm": ([sgm("srcset", side).encode() for side in marked], "", ""),
        "parquet": ([parquet(table)], "en", "de"),
        "catalogue": ([_zip(members)], "c/*/en.json", "c/*/de.json"),
        **{name: ([text.encode()], *fields.get(name, ("en", "de"))) for name, text in texts.items()},
    }


SAMPLES = _samples()
PACKED_WHOLE = ("parquet", "catalogue")  # formats with a compression of their own
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda content: gzip.compress(content, 1, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}


def read_readers(folder: Path, random_: random.Random) -> None:
    """A part of any format, plain or compressed, one of its files damaged, within or without the compression."""
    format_ = random_.choice(list(SAMPLES))
    contents, source_field, target_field = SAMPLES[format_]
    compressed = format_ not in PACKED_WHOLE and random_.random() < 0.4
    pack = random_.choice(list(COMPRESSIONS.values())) if compressed else bytes
    hit = random_.randrange(len(contents))
    paths = [f"{format_}.{n}" for n in range(len(contents))]
    for number, content in enumerate(contents):
        inside = damaged(content, random_) if number == hit and random_.random() < 0.5 else content
        packed = pack(inside)
        outside = damaged(packed, random_) if number == hit and inside is content else packed
        (folder / paths[number]).write_bytes(outside)
    part = Part(
        corpus="c", name="p", split=None, format=format_, source=paths[0], target=paths[-1],
        source_language="en", target_language="de", source_field=source_field, target_field=target_field,
    )  # fmt: skip
    for batch in read_part(part, folder, 7, _ignored):
        assert len(batch.source) == len(batch.target) == len(batch.origin)
        for text in [*batch.source, *batch.target]:
            text.encode()


def _hostile_tar(random_: random.Random) -> bytes:
    """An archive with what archives can do beside holding files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=random_.choice(["w", "w:gz", "w:bz2", "w:xz"])) as tar:
        for _ in range(random_.randint(1, 6)):
            entry = tarfile.TarInfo(random_.choice(["a/x.en", "./a/x.de", "../x", "/tmp/x", "a", "a/../../y", "b"]))
            entry.type = random_.choice(
                [
                    tarfile.REGTYPE,
                    tarfile.REGTYPE,
                    tarfile.SYMTYPE,
                    tarfile.LNKTYPE,
                    tarfile.DIRTYPE,
                    tarfile.FIFOTYPE,
                ]
            )
            entry.linkname = random_.choice(["..", "/etc", "../..", "a/x.en", ""])
            content = random_.randbytes(random_.choice([0, 1, 600])) if entry.isreg() else b""
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _hostile_zip(random_: random.Random) -> bytes:
    names = random_.sample(["a/x.en", "a/x.de", "../x", "/tmp/x", "a/../../y", "b", "a\\..\\z", "c:x"], 4)
    return _zip({name: random_.randbytes(300) for name in names})


def read_archives(folder: Path, random_: random.Random) -> None:
    """A hostile archive, damaged or not: nothing appears but the members asked for, below the folder asked for."""
    kind = random_.choice(["x.tgz", "x.zip"])
    content = _hostile_zip(random_) if kind == "x.zip" else _hostile_tar(random_)
    archive, target = folder / kind, folder / "deep" / "target"
    archive.write_bytes(damaged(content, random_) if random_.random() < 0.7 else content)
    target.mkdir(parents=True)
    members = random_.sample(["a/x.en", "a/x.de", "../x", "/tmp/x", "a/../../y", "b", "a"], random_.randint(1, 3))
    outside = Path("/tmp/x"), Path("/tmp/y")
    before = [path.exists() for path in outside]
    try:
        extract(archive, members, target)
    finally:
        assert [path.exists() for path in outside] == before
        made = {path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
        assert made - {archive} <= {target / member for member in members}, made
        assert not any(path.is_symlink() for path in made)
    catalogue_languages(archive, "c/*/{language}.json")


def read_params(folder: Path, random_: random.Random) -> None:
    """The text of a params file."""
    preset = random_.choice(sorted((CHECKOUT / "presets").glob("*.yaml")))
    parse_params(damaged(preset.read_bytes(), random_), "params.yaml")


def read_registry(folder: Path, random_: random.Random) -> None:
    """The registry; where it is still one, its files are asked for too."""
    path = folder / "corpora.yaml"
    own = b"mine:\n  local:\n    train: {en: a.en, de: a.de}\n    all: {file: x.tsv, en: 0, de: 1}\n"
    path.write_bytes(damaged((CHECKOUT / "data" / "corpora.yaml").read_bytes() + own, random_))
    entries = load_corpora(path)
    for name, entry in entries.items():
        languages = LanguageParams(source="en", target=random_.choice(["de", "fr", "ja"]))
        chosen_corpora(DownloadParams(corpora=[name], retries=0, timeout_seconds=1), languages, entries, path)
        if isinstance(entry, Corpus):
            for members in needed_files(entry, languages).values():
                assert not any(member.startswith("/") or ".." in Path(member).parts for member in members)


def read_records(folder: Path, random_: random.Random) -> None:
    """Lineage records, DVC's own files, the parts of the raw folder."""
    match random_.randrange(3):
        case 0:
            record = random_.choice(sorted((CHECKOUT / "reports" / "lineage").glob("*.json")))
            parse_record(damaged(record.read_bytes(), random_), "record.json")
        case 1:
            parse_definition(damaged((CHECKOUT / "dvc.yaml").read_bytes(), random_), "dvc.yaml")
        case 2:
            part = Part(corpus="c", name="p", split=None, format="lines", source="a", target="b", source_language="en", target_language="de")  # fmt: skip  # noqa: E501
            write_parts(folder, [part, part])
            path = folder / PARTS_FILE
            path.write_bytes(damaged(path.read_bytes(), random_))
            read_parts(folder)


def read_spools(folder: Path, random_: random.Random) -> None:
    """The records of a run that wait for MLflow."""
    spool = Spool.create(folder, "train")
    spool.start(uri="sqlite:///x", experiment="e", name="n", tags={}, params={})
    for step in range(5):
        spool.append("metrics", step=step, values={"loss": 1.5})
    spool.set_position(spool.position())
    path = random_.choice([path for path in files_below(spool.folder) if path.stat().st_size])
    path.write_bytes(damaged(path.read_bytes(), random_))
    list(spool.events(0))
    list(spool.events(spool.position().offset))
    spool.is_live()


_MODEL: dict[str, bytes] = {}


def read_models(folder: Path, random_: random.Random) -> None:
    """A model folder with one file damaged."""
    if not _MODEL:
        write_tiny_model(folder / "model")
        _MODEL.update({path.name: path.read_bytes() for path in (folder / "model").iterdir()})
    (folder / "model").mkdir(exist_ok=True)
    hit = random_.choice(sorted(_MODEL))
    for name, content in _MODEL.items():
        (folder / "model" / name).write_bytes(damaged(content, random_) if name == hit else content)
    load_model(folder / "model", select_device("cpu"))
    read_config(folder / "model")
    read_decoding(folder / "model")


TARGETS: dict[str, Callable[[Path, random.Random], None]] = {
    "readers": read_readers,
    "archives": read_archives,
    "params": read_params,
    "registry": read_registry,
    "records": read_records,
    "spools": read_spools,
    "models": read_models,
}


def fuzz(target: str, seconds: float, seed: int, folder: Path) -> int:
    """Run a target again and again; how often. The input of the last time is in a folder below `folder`."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang in C would not let a Python handler run
    begun, times = time.monotonic(), 0
    np.seterr(all="ignore")
    while time.monotonic() - begun < seconds:
        here = folder / "input"
        _empty(here)
        (folder / "seed").write_text(f"{target} {seed} {times}")
        signal.alarm(HANG_SECONDS)
        try:
            TARGETS[target](here, random.Random(f"{seed} {times}"))
        except UserError as error:
            check_told(error)
        signal.alarm(0)
        times += 1
    return times


def check_told(error: UserError) -> None:
    """What the user reads is one line."""
    assert "\n" not in str(error), f"more than one line: {str(error)!r}"


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    print(fuzz(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
