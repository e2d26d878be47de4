# ruff: noqa: E501 (a row a line)
"""Small corpora in every format, whole and with every fault: what the stages make of each, word for word.

Each row is a user's `train` in data/corpora.yaml beside a sound `valid` and `test`.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from marked_up import message, parquet, po, sgm, tmx, trans_unit, unit, wmt_xml, xliff
from raw_parts import PARAMS

from transformer.chunks import LocalExecutor
from transformer.data.download.download import download
from transformer.data.prepare.prepare import prepare
from transformer.errors import UserError
from transformer.params import DownloadParams, LanguageParams

FORCE = "then run `dvc repro --force download`"
MEND = f"mend it, {FORCE}"
REPLACE = f"replace it by a whole copy, {FORCE}"
REGISTRY = "data/corpora.yaml: mine.local.train"
RED, BLUE = ("A red house", "Ein rotes Haus"), ("The sea is blue", "Das Meer ist blau")
BOTH = [RED, BLUE]
EN, DE = ("".join(f"{pair[side]}\n" for pair in BOTH) for side in (0, 1))
TSV = "".join(f"{source}\t{target}\n" for source, target in BOTH)
JSONL = "".join(json.dumps({"id": 1, "translation": {"en": en, "de": de}}) + "\n" for en, de in BOTH)


@dataclass
class Row:
    """Files below `my/`, the entry `train`, and the pairs of the training split or the message."""

    name: str
    files: dict[str, bytes | str]
    train: dict[str, Any]
    expected: list[tuple[str, str]] | str
    left_out: dict[str, int] = field(default_factory=dict)
    pair: str = "en-de"


def lines(name: str, en: bytes | str, de: bytes | str, expected: Any = None, **more: Any) -> Row:
    """Two files of lines."""
    train = {"en": "my/a.en", "de": "my/a.de", **more.pop("train", {})}
    return Row(name, {"my/a.en": en, "my/a.de": de}, train, BOTH if expected is None else expected, **more)


def one(name: str, file: str, content: bytes | str, train: dict[str, Any], expected: Any = None, **more: Any) -> Row:
    """One file that holds both sides."""
    return Row(name, {f"my/{file}": content}, {"file": f"my/{file}", **train}, expected or BOTH, **more)


TRANSLATION = pa.table({"translation": [{"en": en, "de": de} for en, de in BOTH]})
BAD_TEXT = pa.Array.from_buffers(pa.string(), 2, pa.array([b"A red house", b"\xff"]).buffers())
COLUMNS = pa.table({"en": [pair[0] for pair in BOTH], "de": [pair[1] for pair in BOTH]})
DICTIONARY = pa.table(
    {"en": COLUMNS["en"].combine_chunks().dictionary_encode(), "de": COLUMNS["de"].cast("string_view")}
)
TU = "".join(unit(*pair) for pair in BOTH)
UNITS = "".join(trans_unit(number, *pair) for number, pair in enumerate(BOTH))
MESSAGES = "".join(message(*pair) for pair in BOTH)
LONG = "x" * 5000
BOMB = "<!DOCTYPE tmx [" + "".join(f'<!ENTITY {chr(97 + n)} "{f"&{chr(96 + n)};" * 10 if n else "aaaaaaaaaa"}">' for n in range(12)) + "]>"  # fmt: skip
TAR, ZIP = io.BytesIO(), io.BytesIO()
with tarfile.open(fileobj=TAR, mode="w") as tar:
    tar.addfile(tarfile.TarInfo("a.en"), io.BytesIO())
with zipfile.ZipFile(ZIP, "w") as archive:
    archive.writestr("a.en", EN)

ROWS = [
    # lines: compression by content, whatever the name
    lines("lines", EN, DE),
    lines("gzip and zstd without a suffix", gzip.compress(EN.encode()), zstandard.compress(DE.encode())),
    lines("bzip2 and xz without a suffix", bz2.compress(EN.encode()), lzma.compress(DE.encode())),
    Row("plain text named .gz", {"my/a.en.gz": EN, "my/a.de.zst": DE}, {"en": "my/a.en.gz", "de": "my/a.de.zst"}, BOTH),
    Row("lines named train.tsv.en", {"my/t.tsv.en": EN, "my/t.tsv.de": DE}, {"en": "my/t.tsv.en", "de": "my/t.tsv.de"}, BOTH),
    lines("two gzip members and a zstd frame after another", gzip.compress(EN[:12].encode()) + gzip.compress(EN[12:].encode()), zstandard.compress(DE[:15].encode()) + zstandard.compress(DE[15:].encode())),
    lines("byte-order mark and Windows line ends", "\ufeff" + EN.replace("\n", "\r\n"), DE),
    lines("a blank line on both sides is an empty pair", f"\n{EN}", f"\n{DE}"),
    lines("or is left out", f"\n{EN}", f"\n{DE}", train={"blank_lines": "skip"}, left_out={"blank_line": 1}),
    lines("entities are resolved once on both sides", "x ?a=1&copy=2 &amp;lt;b&amp;gt; &notanentity;\n", "y ?a=1&copy=2 &amp;lt;b&amp;gt; &notanentity;\n", [("x ?a=1&copy=2 &lt;b&gt; &notanentity;", "y ?a=1&copy=2 &lt;b&gt; &notanentity;")]),
    lines("C1 controls that are Windows-1252", "I don\x92t know\n", "Ich wei\xdf es \x84nicht\x93\n", [("I don’t know", "Ich weiß es „nicht“")]),
    Row("Russian, xz", {"my/a.en": EN, "my/a.ru": lzma.compress("Красный дом\nМоре синее\n".encode())}, {"en": "my/a.en", "ru": "my/a.ru"}, [("A red house", "Красный дом"), ("The sea is blue", "Море синее")], pair="en-ru"),
    lines("files of different lengths", EN, DE + "Mehr\n", f"my/a.en: it has 2 lines and my/a.de has 3: pair 3 has no source; {MEND}"),
    lines("bad UTF-8", EN, b"Ein rotes Haus\nstra\xdfe\n", f"my/a.de, line 2: not UTF-8 (invalid continuation byte); convert it (iconv), {FORCE}"),
    lines("UTF-16", EN, DE.encode("utf-16"), f"my/a.de, line 1: not UTF-8 but UTF-16 or binary; convert it (iconv -f utf-16 -t utf-8), {FORCE}"),
    lines("line ends of old Macs", EN * 20, (DE * 20).replace("\n", "\r"), f"my/a.de, line 1: 39 carriage returns, where a line feed alone ends a line; convert it (tr '\\r' '\\n'), {FORCE}"),
    lines("a gzip that is cut short", EN, gzip.compress(DE.encode())[:-9], f"{REGISTRY}: my/a.de: the compressed file is cut short; replace it by a whole copy"),
    lines("a zstd that is cut short", EN, zstandard.compress(DE.encode() * 9)[:-4], f"{REGISTRY}: my/a.de: the compressed file is cut short; replace it by a whole copy"),
    lines("an empty file", "", "", f"my/a.en: it is empty; {MEND}"),
    lines("a line beyond the limit", f"{RED[0]}\n{LONG}\n", DE, "my/a.en, line 2: it is longer than preparation.max_line_bytes = 4096; raise that, or split the text"),
    lines("a small gzip of one huge line", gzip.compress(b"x" * 50_000_000), DE, "my/a.en, line 1: it is longer than preparation.max_line_bytes = 4096; raise that, or split the text"),
    lines("a zip archive", ZIP.getvalue(), DE, f"{REGISTRY}: my/a.en is a zip archive or an office document: unpack or export it as text first"),
    lines("a tar archive in gzip", gzip.compress(TAR.getvalue()), DE, f"{REGISTRY}: my/a.en is a tar archive: unpack it first"),
    lines("a web page", "<!DOCTYPE html>\n<html>\n", DE, f"{REGISTRY}: my/a.en is markup (<!DOCTYPE html>): say its `format:` (jsonl, parquet, po, sgm, tmx, tsv, xliff, wmt-xml, or lines to take it as it is)"),
    lines("IWSLT's training files", "<url>http://x</url>\n" + EN, DE, f"{REGISTRY}: my/a.en is markup (<url>http://x</url>): say its `format:` (jsonl, parquet, po, sgm, tmx, tsv, xliff, wmt-xml, or lines to take it as it is)"),
    lines("sentences in elements", '<s id="1">A red house</s>\n<s id="2">The sea</s>\n', DE, f"{REGISTRY}: my/a.en is markup (<s id=\"1\">A red house</s>): say its `format:` (jsonl, parquet, po, sgm, tmx, tsv, xliff, wmt-xml, or lines to take it as it is)"),
    Row("a file named .xml that is none", {"my/a.xml": EN, "my/a.de": DE}, {"en": "my/a.xml", "de": "my/a.de"}, f"{REGISTRY}: my/a.xml is markup (by its name): say its `format:` (jsonl, parquet, po, sgm, tmx, tsv, xliff, wmt-xml, or lines to take it as it is)"),
    lines("a sentence in tags", "<b>Stop</b> it\n", "<b>Lass</b> das\n", [("<b>Stop</b> it", "<b>Lass</b> das")]),
    lines("width without columns", EN, DE, f"{REGISTRY}: width is for tsv with numbered columns", train={"width": 3}),
    one("blank lines of TMX", "a.tmx", tmx(TU), {"en": "en", "de": "de", "blank_lines": "skip"}, f"{REGISTRY}: blank_lines = 'skip': tmx has no blank lines; lines, tsv and jsonl have"),
    lines("markup that is meant", f"<p>\n{EN}", f"<p>\n{DE}", train={"format": "lines"}),
    Row("a folder for a file", {"my/a/x": "", "my/a.de": DE}, {"en": "my/a", "de": "my/a.de"}, f"{REGISTRY}: my/a is a folder: name a file in it"),
    Row("a missing file", {"my/a.de": DE}, {"en": "my/a.en", "de": "my/a.de"}, f"{REGISTRY}: my/a.en does not exist (relative paths start at the repository's root)"),
    # sgm
    Row("SGM named .SGM, gzip", {"my/a.SGM": sgm("srcset", [RED[0], "The sea is blue &amp;amp; &lt;b&gt;"]), "my/b.SGM": gzip.compress(sgm("refset", [RED[1], "Das Meer ist blau &amp;amp; &lt;b&gt;"]).encode())}, {"en": "my/a.SGM", "de": "my/b.SGM"}, [RED, ("The sea is blue &amp; <b>", "Das Meer ist blau &amp; <b>")]),
    lines("SGM by its content, attributes without quotes", sgm("srcset", [RED[0], BLUE[0]], ""), sgm("refset", [RED[1], BLUE[1]], "")),
    lines("IWSLT's .xml", "<?xml version='1.0'?>\n<mteval>\n" + sgm("srcset", [RED[0], BLUE[0]]) + "</mteval>\n", sgm("refset", [RED[1], BLUE[1]])),
    lines("SGM whose text has what is no entity", sgm("srcset", ["See ?a=1&copy=2 &notanentity; R&D"]), sgm("refset", ["Siehe ?a=1&copy=2 &notanentity; F&E"]), [("See ?a=1&copy=2 &notanentity; R&D", "Siehe ?a=1&copy=2 &notanentity; F&E")]),
    lines("SGM beside lines", sgm("srcset", [RED[0]]), DE, f"{REGISTRY}: my/a.en is sgm and my/a.de is lines: both sides need one format"),
    lines("SGM with other segments", sgm("srcset", [RED[0], BLUE[0]]), sgm("refset", [RED[1]]), f"my/a.en: it has 2 segments and my/a.de has 1; {MEND}"),
    # tsv
    one("TSV by number", "a.tsv", TSV, {"en": 0, "de": 1}),
    one("TSV by header", "a.tsv.bz2", bz2.compress(f"score\ten\tde\n{''.join(f'1{chr(9)}{line}{chr(10)}' for line in TSV.splitlines())}".encode()), {"en": "en", "de": "de"}),
    one("TSV without a suffix", "a", TSV, {"en": 0, "de": 1}),
    one("TSV with a third column that is declared", "a.tsv", TSV.replace("\n", "\t0.5\n"), {"en": 0, "de": 1, "width": 3}),
    one("TSV with a third column", "a.tsv", TSV.replace("\n", "\t0.5\n"), {"en": 0, "de": 1}, "my/a.tsv, line 1: 3 columns between tabs where data/corpora.yaml speaks of 2; say `width: 3` there if every line has so many, or mend the line"),
    one("TSV with a missing column", "a.tsv", TSV + "alone\n", {"en": 0, "de": 1}, f"my/a.tsv, line 3: 1 column between tabs where data/corpora.yaml speaks of 2; {MEND}"),
    one("TSV with a blank line", "a.tsv", f"{TSV}\n", {"en": 0, "de": 1}, "my/a.tsv, line 3: a blank line; say `blank_lines: skip` in data/corpora.yaml, or `keep` for an empty pair"),
    one("TSV with a blank line that is left out", "a.tsv", f"{TSV}\n", {"en": 0, "de": 1, "blank_lines": "skip"}, left_out={"blank_line": 1}),
    one("TSV without the header's column", "a.tsv", f"en\tfr\n{TSV}", {"en": "en", "de": "de"}, "my/a.tsv, line 1: no column 'de'; its first line names en, fr; name another one in data/corpora.yaml, or number them from 0"),
    one("TSV that is Parquet", "a.tsv", parquet(COLUMNS), {"en": 0, "de": 1}, f"{REGISTRY}: my/a.tsv is parquet: en: 0, de: 1: column names, nested ones with dots (translation.en) expected"),
    # JSON lines
    one("JSON lines, nested", "a.jsonl.zst", zstandard.compress(JSONL.encode()), {"en": "translation.en", "de": "translation.de"}),
    one("JSON lines named .json", "a.json", JSONL, {"en": "translation.en", "de": "translation.de", "format": "jsonl"}),
    one("JSON lines named .json, of which nothing is said", "a.json", JSONL, {"en": "translation.en", "de": "translation.de"}, f"{REGISTRY}: my/a.json: say `format: jsonl` if it has an object a line; of a list: jq -c '.[]' FILE.json > FILE.jsonl"),
    one("CSV", "a.csv", "en,de\na,b\n", {"en": "en", "de": "de"}, f"{REGISTRY}: my/a.csv: CSV is not read, as its quoting is no standard: save it as TSV, with tabs and without quotes"),
    one("a text of unknown kind", "a.dat", b"en,de\na,b\n", {"en": "en", "de": "de"}, f"{REGISTRY}: neither name nor content of my/a.dat tells its format: say `format:` (jsonl, parquet, po, tmx, tsv, wmt-xml, xliff)"),
    one("JSON lines without the key", "a.jsonl", JSONL, {"en": "en", "de": "de"}, "my/a.jsonl, line 1: no key 'en'; there are id, translation.en, translation.de; name one of them in data/corpora.yaml, or mend the line"),
    one("a JSON array", "a.jsonl", "[{}]", {"en": "en", "de": "de"}, f"my/a.jsonl, line 1: list where JSON lines have an object; make an object a line of it (jq -c '.[]'), {FORCE}"),
    one("JSON lines, cut", "a.jsonl", JSONL[:-9], {"en": "translation.en", "de": "translation.de"}, f"my/a.jsonl, line 2: not JSON (Unterminated string starting at, character 58); {MEND}"),
    one("Japanese JSON lines in Windows' line ends", "a.jsonl", '{"en": "A red house", "ja": "\\u8d64\\u3044\\u5bb6"}\r\n', {"en": "en", "ja": "ja"}, [("A red house", "赤い家")], pair="en-ja"),
    # Parquet
    one("Parquet as Hugging Face has it", "a.parquet", parquet(TRANSLATION), {"en": "translation.en", "de": "translation.de"}),
    one("Parquet, dictionary and string_view, several row groups", "a", parquet(DICTIONARY, row_group_size=1), {"en": "en", "de": "de"}),
    one("Parquet with a name twice", "a.parquet", parquet(pa.table([["a"], ["b"], ["c"]], names=["en", "en", "de"])), {"en": "en", "de": "de"}, "my/a.parquet: it has 2 columns named 'en'; its columns are en, en, de; name two that hold text in data/corpora.yaml"),
    one("Parquet with bad UTF-8", "a.parquet", parquet(pa.table({"en": BAD_TEXT, "de": ["x", "y"]})), {"en": "en", "de": "de"}, f"my/a.parquet: row 2: column 'en' is not UTF-8; {MEND}"),
    one("Parquet, cut", "a.parquet", parquet(COLUMNS)[:-20], {"en": "en", "de": "de"}, f"my/a.parquet: not a readable Parquet file (Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file.); {REPLACE}"),
    # TMX
    one("TMX", "a.tmx", tmx(TU), {"en": "en", "de": "de-DE"}),
    one("TMX in UTF-16, in gzip, named .xml", "a.xml", gzip.compress(tmx(TU, '<?xml version="1.0" encoding="UTF-16"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">').encode("utf-16")), {"en": "en", "de": "de"}),
    one("TMX: text, not markup", "a.tmx", tmx(unit('A <bpt i="1">&lt;b&gt;</bpt>red<ept i="1">&lt;/b&gt;</ept> <hi>house</hi> &amp;amp;', 'Ein <ph x="1">{1}</ph>rotes Haus &amp;amp;')), {"en": "en", "de": "de"}, [("A red house &amp;", "Ein rotes Haus &amp;")]),
    one("TMX, untranslated units", "a.tmx", tmx(TU + unit("Later", "") + '<tu><tuv xml:lang="en"><seg>Alone</seg></tuv></tu>'), {"en": "en", "de": "de"}, left_out={"untranslated": 2}),
    one("TMX in Arabic, of which one region is wanted", "a.tmx", tmx('<tu><tuv xml:lang="en"><seg>A red house</seg></tuv><tuv xml:lang="ar-EG"><seg>بيت</seg></tuv><tuv xml:lang="ar"><seg>بيت أحمر</seg></tuv></tu>'), {"en": "en", "ar": "ar"}, [("A red house", "بيت أحمر")], pair="en-ar"),
    one("TMX in other languages", "a.tmx", tmx(TU), {"en": "en", "de": "fr"}, "my/a.tmx: no unit has both en and fr; its languages are de-DE, en-US; say in data/corpora.yaml how the file spells each language"),
    one("TMX, cut", "a.tmx", tmx(TU)[:-30], {"en": "en", "de": "de"}, f"my/a.tmx, line 1: not well-formed XML (Premature end of data in tag seg line 1); {MEND}"),
    one("TMX with an external entity", "a.tmx", tmx(unit("&x;", "x"), '<!DOCTYPE tmx [<!ENTITY x SYSTEM "file:///etc/hostname">]>\n'), {"en": "en", "de": "de"}, f"my/a.tmx, line 1: it declares entities, which are not read; write what they stand for, {FORCE}"),
    one("TMX that expands to terabytes", "a.tmx", tmx(unit("&l;", "x"), BOMB), {"en": "en", "de": "de"}, "entit"),
    one("TMX with a prefix that stands for nothing", "a.tmx", "<t:mx><p>Not found</p></t:mx>", {"en": "en", "de": "de", "format": "tmx"}, f"my/a.tmx, line 1: its root is <t:mx>, not <tmx>; {MEND}"),
    one("TMX that is none", "a.tmx", "<html><p>Not found</p></html>", {"en": "en", "de": "de"}, f"my/a.tmx, line 1: its root is <html>, not <tmx>; {MEND}"),
    # XLIFF
    one("XLIFF 1.2", "a.xlf", xliff(UNITS + trans_unit(3, "New", "New", "new") + trans_unit(4, "Unsure", "Unsicher", "needs-review-translation")), {"en": "en", "de": "de"}, left_out={"untranslated": 1, "fuzzy": 1}),
    one("XLIFF without states", "a.xlf", xliff("".join(f'<trans-unit id="{n}"{approved}><source>{a}</source><target>{b}</target></trans-unit>' for n, ((a, b), approved) in enumerate([(RED, ""), (BLUE, ' approved="yes"'), (("Unsure", "Unsicher"), ' approved="no"')]))), {"en": "en", "de": "de"}, left_out={"fuzzy": 1}),
    one("XLIFF of the other direction", "a.xliff", xliff("".join(trans_unit(n, b, a) for n, (a, b) in enumerate(BOTH)), "de", "en-GB"), {"en": "en", "de": "de"}),
    one("XLIFF in other languages", "a.xlf", xliff(UNITS, "fr", "de"), {"en": "en", "de": "de"}, "my/a.xlf, line 1: it is fr-de, not en-de; say in data/corpora.yaml how the file spells each language"),
    one("XLIFF 2", "a.xlf", '<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" trgLang="de"><file id="f"><unit id="1"><segment><source>A <pc id="1">red</pc> house<ph id="2"/></source><target>Ein <pc id="1">rotes</pc> Haus</target></segment><segment><source>Open</source></segment></unit></file></xliff>', {"en": "en", "de": "de"}, [RED], left_out={"untranslated": 1}),
    # PO
    one("PO", "de.po", po(MESSAGES + '#, fuzzy\nmsgid "Unsure"\nmsgstr "Unsicher"\n\n' + message("New", "")), {"en": "msgid", "de": "msgstr"}, left_out={"untranslated": 1, "fuzzy": 1}),
    one("PO in Latin-1, plural forms", "de.po", po('msgid "Open the door"\nmsgid_plural "Open the doors"\nmsgstr[0] "Öffne die Tür"\nmsgstr[1] "Öffne die Türen"\n', "ISO-8859-1").encode("latin-1"), {"en": "msgid", "de": "msgstr"}, [("Open the door", "Öffne die Tür"), ("Open the doors", "Öffne die Türen")]),
    Row("PO with keys, a file a language", {"my/en.po": po(message("house", RED[0]) + message("sea", BLUE[0])), "my/de.po": po(message("house", RED[1]))}, {"en": "my/en.po", "de": "my/de.po"}, [RED], left_out={"untranslated": 1}),
    one("PO without a translation", "de.po", po('msgid "a\\n"\n\nmsgid "b"\nmsgstr "c"\n'), {"en": "msgid", "de": "msgstr"}, f"my/de.po, line 5: not a PO file (missing msgstr for msgid 'a '); {MEND}"),
    one("PO without quotes", "de.po", po('msgid "a"\nmsgstr b\n'), {"en": "msgid", "de": "msgstr"}, f"my/de.po, line 6: neither a comment nor a keyword and a text in quotes, as in PO files; {MEND}"),
    one("PO without a translation", "de.po", po(message("New", "")), {"en": "msgid", "de": "msgstr"}, f"my/de.po: it holds no pair for en-de; left out: 1 untranslated; {MEND}"),
    # WMT's XML
    one("WMT's XML", "news.xml", wmt_xml(), {"en": "en", "de": "de"}),
    one("WMT's XML with other segments", "news.xml", wmt_xml(""), {"en": "en", "de": "de"}, f"my/news.xml, line 2: source and reference A differ in segment 2; {MEND}"),
    one("WMT's XML with a bare ampersand", "news.xml", wmt_xml().replace("red house", "R & D"), {"en": "en", "de": "de"}, f"my/news.xml, line 2: not well-formed XML (xmlParseEntityRef: no name); {MEND}"),
    # further messages of the readers
    Row("two TSV files", {"my/en.tsv": EN, "my/de.tsv": DE}, {"en": "my/en.tsv", "de": "my/de.tsv"}, f"{REGISTRY}: my/en.tsv is tsv, which holds both sides: `file:` names it and says where each language is in it; `format: lines` takes its lines as they are"),
    one("TSV, a blank line kept", "a.tsv", f"\n{TSV}", {"en": 0, "de": 1, "blank_lines": "keep"}),
    one("TSV with a header's column twice", "a.tsv", f"de\ten\tde\n{TSV}", {"en": "en", "de": "de"}, "my/a.tsv, line 1: 2 columns 'de'; its first line names de, en, de; name another one in data/corpora.yaml, or number them from 0"),
    one("JSON lines, a blank line kept", "a.jsonl", f"\n{JSONL}", {"en": "translation.en", "de": "translation.de", "blank_lines": "keep"}),
    one("JSON lines, a blank line left out", "a.jsonl", f"{JSONL}\n", {"en": "translation.en", "de": "translation.de", "blank_lines": "skip"}, left_out={"blank_line": 1}),
    one("JSON lines, a blank line", "a.jsonl", f"{JSONL}\n", {"en": "translation.en", "de": "translation.de"}, "my/a.jsonl, line 3: a blank line; say `blank_lines: skip` in data/corpora.yaml, or `keep` for an empty pair"),
    one("a JSON array over several lines", "a.jsonl", '[\n{"en": "a"}\n]\n', {"en": "en", "de": "de"}, f"my/a.jsonl: one JSON array; make an object a line of it (jq -c '.[]'), {FORCE}"),
    one("JSON lines with a number", "a.jsonl", '{"en": "a", "de": 7}', {"en": "en", "de": "de"}, f"my/a.jsonl, line 1: 'de' is 7, not text; {MEND}"),
    one("JSON lines with half a character", "a.jsonl", '{"en": "a", "de": "\\ud83d"}', {"en": "en", "de": "de"}, f"my/a.jsonl, line 1: 'de' holds half a surrogate pair, which is not a character; {MEND}"),
    one("Parquet, a path into a column of text", "a.parquet", parquet(COLUMNS), {"en": "en.x", "de": "de"}, "my/a.parquet: it has no column 'en.x'; its columns are en, de; name two that hold text in data/corpora.yaml"),
    one("Parquet, a struct for a column", "a.parquet", parquet(TRANSLATION), {"en": "translation", "de": "translation.de"}, "my/a.parquet: column 'translation' holds struct<en: string, de: string>, not text; its columns are translation.en, translation.de; name two that hold text in data/corpora.yaml"),
    one("Parquet with a text beyond the limit", "a.parquet", parquet(pa.table({"en": ["a", LONG], "de": ["b", "c"]})), {"en": "en", "de": "de"}, "my/a.parquet: row 2 of column 'en' is longer than preparation.max_line_bytes = 4096; raise that, or split the text"),
    one("Parquet that is damaged inside", "a.parquet", parquet(COLUMNS)[:4] + bytes(60) + parquet(COLUMNS)[64:], {"en": "en", "de": "de"}, "my/a.parquet: not a readable Parquet file ("),
    one("TMX with a text beyond the limit", "a.tmx", tmx(unit(LONG, "x")), {"en": "en", "de": "de"}, "my/a.tmx, line 1: a text is longer than preparation.max_line_bytes = 4096; raise that, or split the text"),
    one("TMX with an entity of HTML", "a.tmx", tmx(unit("a&nbsp;b", "x")), {"en": "en", "de": "de"}, f"my/a.tmx, line 1: not well-formed XML (Entity 'nbsp' not defined); {MEND}"),
    one("TMX with an entity of its external DTD", "a.tmx", tmx(unit("a&nbsp;b", "x"), '<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'), {"en": "en", "de": "de"}, f"my/a.tmx, line 2: &nbsp; is no entity of XML; write the character itself, {FORCE}"),
    one("TMX without a language", "a.tmx", tmx("<tu><tuv><seg>x</seg></tuv></tu>"), {"en": "en", "de": "de"}, "my/a.tmx: no unit has both en and de; its languages are unknown; say in data/corpora.yaml how the file spells each language"),
    one("XLIFF, line breaks and characters by code", "a.xlf", xliff(trans_unit(1, 'A red<x id="1" ctype="lb"/>house', 'Ein rotes<x id="1" ctype="lb"/>H<cp hex="0061"/>us<cp hex="x"/>')), {"en": "en", "de": "de"}, [RED]),
    one("PO without msgstr", "de.po", 'msgid "a"\n\nmsgid "b"\nmsgstr "c"\n', {"en": "msgid", "de": "msgstr"}, f"my/de.po, line 1: not a PO file (missing msgstr for msgid 'a'); {MEND}"),
    one("PO in another charset than it says", "de.po", po(message("a", "ö")).encode("latin-1"), {"en": "msgid", "de": "msgstr"}, f"my/de.po: not in the charset that its header names ('utf-8' codec can't decode byte 0xf6 in position 8: invalid start byte); {MEND}"),
    one("PO with a message beyond the limit", "de.po", 'msgid "a"\nmsgstr ""\n' + f'"{LONG[:999]}"\n' * 5, {"en": "msgid", "de": "msgstr"}, "my/de.po, line 1: a message is longer than preparation.max_line_bytes = 4096; raise that, or split the text"),
    lines("SGM with a segment beyond the limit", sgm("srcset", ["x\n" * 3000]), sgm("refset", ["y"]), "my/a.en, line 3: segment 1 is longer than preparation.max_line_bytes = 4096; raise that, or split the text"),
    one("WMT's XML in other languages", "news.xml", wmt_xml(), {"en": "en", "de": "cs"}, "my/news.xml: no document has both en and cs; it has ref de, src en; say in data/corpora.yaml how the file spells each language"),
    one("WMT's XML with a segment twice", "news.xml", wmt_xml('<seg id="1">The sea</seg>'), {"en": "en", "de": "de"}, f"my/news.xml, line 2: segment 1 is there twice; {MEND}"),
    one("WMT's XML with a segment without id", "news.xml", wmt_xml("<seg>The sea</seg>"), {"en": "en", "de": "de"}, f"my/news.xml, line 2: a segment without id; {MEND}"),
]  # fmt: skip


LIBRARY_WORDS = ("TMX that expands to terabytes", "Parquet that is damaged inside")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_small_corpus(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, target = row.pair.split("-")
    sound = {
        f"my/{split}.{side}": f"{split} sentence in {side}\n" for split in ("v", "t") for side in (source, target)
    }
    for name, content in (sound | row.files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    splits = {split: {side: f"my/{split[0]}.{side}" for side in (source, target)} for split in ("valid", "test")}
    registry = Path("data/corpora.yaml")
    registry.parent.mkdir()
    registry.write_text(
        yaml.safe_dump({"mine": {"local": {"train": row.train, **splits}}}, sort_keys=False), encoding="utf-8"
    )

    if isinstance(row.expected, str):
        with pytest.raises(UserError) as caught:
            pairs_and_report(row.pair)
        told = str(caught.value)
        assert "\n" not in told
        # What libxml2 and Arrow say about some faults is theirs to change.
        assert told == row.expected or (row.name in LIBRARY_WORDS and row.expected in told)
    else:
        pairs, report = pairs_and_report(row.pair)
        assert pairs == row.expected
        assert report["parts"]["mine-train"].get("left_out", {}) == row.left_out


ENDLESS = {
    "lines": b"",
    "sgm": b"<srcset><doc docid=1><seg id=1>",
    "po": b'msgid "',
    "tmx": b"<tmx><body><tu><tuv xml:lang='en'><seg>",
    "tmx, in a tag": b"<tmx><body><tu id='",
    "tmx, in a comment": b"<tmx><!--",
}
READ = """
import resource, sys
from pathlib import Path
from transformer.data.parts import Part
from transformer.data.prepare.readers.part import read_part
from transformer.errors import DataError
fields = {"source_field": "msgid", "target_field": "msgstr"}
part = Part(corpus="c", name="n", split="train", format=sys.argv[1], source="x", target="x", source_language="en", target_language="de", **fields)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(read_part(part, Path(), 10, lambda count: None))
except DataError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.parametrize("name", ENDLESS)
def test_a_text_without_an_end_is_read_in_bounded_memory(name: str, tmp_path: Path) -> None:
    """A gigabyte in 30 kB; the reader may hold what zstd unpacks at a time and what lxml takes as one text."""
    with zstandard.open(tmp_path / "x", "wb") as packed:
        packed.write(ENDLESS[name])
        for _ in range(1000):
            packed.write(b"x" * 1_000_000)
    command = [sys.executable, "-c", READ, name.partition(",")[0]]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    grown, _, message = told.partition(" ")
    assert message.startswith("x, line 1: ") or "without a tag" in message
    assert int(grown) < 150_000 * (1 if sys.platform == "linux" else 1000)


def test_a_test_set_with_several_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand beside the target, in the test split only, and training pairs are compared with all of them."""
    monkeypatch.chdir(tmp_path)
    second = '</ref><ref lang="de" translator="B"><p><seg id="1">Das Haus ist rot</seg><seg id="2">Blau ist das Meer</seg></p></ref></doc>'
    files = {"my/t.xml": wmt_xml().replace("</ref></doc>", second), "my/v.en": "v\n", "my/v.de": "v v\n"}
    files |= {"my/a.en": "Nothing alike\nWhatever it says\n", "my/a.de": "Ganz anders\nDas Haus ist rot\n"}
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    splits = {"train": {"en": "my/a.en", "de": "my/a.de"}, "valid": {"en": "my/v.en", "de": "my/v.de"}}
    splits["test"] = {"file": "my/t.xml", "en": "en", "de": "de"}
    Path("data").mkdir()
    Path("data/corpora.yaml").write_text(yaml.safe_dump({"mine": {"local": splits}}))
    pairs, report = pairs_and_report("en-de")
    assert pairs == [("Nothing alike", "Ganz anders")]
    assert report["removed"]["held_out_target_exact"] == 1
    rows = pq.read_table("data/corpus/test.parquet").to_pylist()
    assert [(row["target"], row["further"]) for row in rows] == [
        ("Ein rotes Haus", ["Das Haus ist rot"]),
        ("Das Meer ist blau", ["Blau ist das Meer"]),
    ]
    assert pq.read_schema("data/corpus/valid.parquet").names == ["source", "target", "origin"]


def pairs_and_report(pair: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The training split of both stages, and reports/corpus.json."""
    languages = LanguageParams(source=pair.split("-")[0], target=pair.split("-")[1])
    raw, work = Path("data/raw"), Path("work")
    params = DownloadParams(corpora=["mine"], retries=0, timeout_seconds=1.0)
    download(params, languages, Path("data/corpora.yaml"), raw, Path("data/manifest.json"), work)
    preparation = PARAMS.model_copy(update={"max_line_bytes": 4096})
    prepare(preparation, raw, Path("data/corpus"), Path("corpus.json"), work, LocalExecutor(1))
    train = pq.read_table("data/corpus/train.parquet").to_pylist()
    return [(row["source"], row["target"]) for row in train], json.loads(Path("corpus.json").read_text())
