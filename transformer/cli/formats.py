"""How translations are written: a line each, n-best lines, or JSON Lines."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer.decoding.translation import Translation

Json = dict[str, Any]


def plain(_number: int, _source: str, translations: "list[Translation]") -> str:
    """The best translation on a line."""
    return translations[0].text + "\n"


def nbest(number: int, _source: str, translations: "list[Translation]") -> str:
    """`input line number ||| translation ||| score`, best first."""
    return "".join(f"{number} ||| {one.text} ||| {one.score:.4f}\n" for one in translations)


def json_line(number: int, source: str, translations: "list[Translation]", several: bool) -> str:
    """A JSON object on a line, as docs/command-line.md describes it; with `several`, all translations in `nbest`."""
    record = {"line": number, "source": source, **_of(translations[0])}
    if several:
        record["nbest"] = [_of(one) for one in translations]
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _of(translation: "Translation") -> Json:
    record: Json = {
        "text": translation.text,
        "score": round(translation.score, 6),
        "log_prob": round(translation.log_prob, 6),
        "cut": translation.cut,
    }
    if translation.not_kept:
        record["not_kept"] = list(translation.not_kept)
    if translation.sentences:
        return {
            **record,
            "sentences": [{"source": one.source, **_of(one.translation)} for one in translation.sentences],
        }
    details = translation.details
    return {
        **record,
        "source_tokens": details.source_tokens if details else [],
        "tokens": details.tokens if details else [],
        "token_log_probs": [round(one, 6) for one in details.token_log_probs] if details else [],
        "alignment": [[round(one, 4) for one in row] for row in details.alignment] if details else [],
    }
