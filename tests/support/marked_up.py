"""The formats of localisation and of WMT, as their tools write them: units in, a file's content out."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def tmx(units: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    return f'{head}<tmx version="1.4"><header srclang="en"/><body>{units}</body></tmx>'


def unit(en: str, de: str) -> str:
    return f'<tu><tuv xml:lang="en-US"><seg>{en}</seg></tuv><tuv xml:lang="de-DE"><seg>{de}</seg></tuv></tu>'


def trans_unit(number: int, source: str, target: str, state: str = "translated") -> str:
    return (
        f'<trans-unit id="{number}"><source>{source}</source><target state="{state}">{target}</target></trans-unit>'
    )


def xliff(units: str, source: str = "en", target: str = "de") -> str:
    file = f'<file original="a" source-language="{source}" target-language="{target}"><body>{units}</body></file>'
    return f'<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">{file}</xliff>'


def sgm(tag: str, texts: list[str], quote: str = '"') -> str:
    segments = "\n".join(f"<seg id={quote}{number}{quote}>{text}</seg>" for number, text in enumerate(texts, 1))
    return f"<{tag} setid=x>\n<doc docid={quote}d{quote}>\n{segments}\n</doc>\n</{tag}>\n"


def wmt_xml(second: str = '<seg id="2">The sea is blue</seg>') -> str:
    """A document of two segments, whose second the test chooses."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<dataset id="news"><doc origlang="en" id="d"><src lang="en">'
        f'<p><seg id="1">A red house</seg></p><p>{second}</p></src><ref lang="de" translator="A">'
        '<p><seg id="1">Ein rotes Haus</seg><seg id="2">Das Meer ist blau</seg></p></ref></doc></dataset>'
    )


def po(entries: str, charset: str = "UTF-8") -> str:
    return f'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={charset}\\n"\n\n{entries}'


def message(original: str, translation: str) -> str:
    return f'msgid "{original}"\nmsgstr "{translation}"\n\n'
