"""What every section of params.yaml has in common; a model folder's JSON files are sections too."""

import json
import reprlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from transformer.errors import DataError

LARGEST = 2**31 - 1  # arrays, SentencePiece and file names count no further
Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountFromZero = Annotated[int, Field(ge=0, le=LARGEST)]


def distinct(names: list[str]) -> list[str]:
    """ValueError if a name is there twice."""
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{repeated!r} is there twice")
    return names


Names = Annotated[list[str], Field(min_length=1), AfterValidator(distinct)]
Location = tuple[int | str, ...]  # where in nested sections
SHOWN_CHARACTERS = 80  # of a wrong value


class Section(BaseModel):
    """A params section: immutable, unknown keys forbidden, no silent conversion of types, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The section that a model folder's JSON file holds.

        Raises:
            DataError: the file is missing or malformed.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(
                f"{path} is missing: {path.parent} is not a complete model folder; run `make repro`"
            ) from None
        except ValidationError as error:
            words = in_words(error, lambda _: f"allowed here: {', '.join(cls.model_fields)}")
            raise DataError(f"{path} is malformed: {words}") from None
        except (ValueError, RecursionError, OSError) as error:
            raise DataError(f"{path} is malformed: {' '.join(str(error).split())}") from None


def in_words(error: ValidationError, known_keys: Callable[[Location], str], within: str = "") -> str:
    """The first problem as one line that names the key, the value and what is allowed.

    `known_keys` tells, for the place of an unknown key, what to write there; `within` is put before the key.
    """
    problems = error.errors(include_url=False)
    # A misspelt key also leaves the right one missing: name the one that was written.
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    key = ".".join([within] * bool(within) + [str(step) for step in first["loc"] if step != "[key]"])
    if first["type"] == "extra_forbidden":
        return f"{key} is not a key; {known_keys(first['loc'])}"
    if first["type"] == "missing":
        return f"{key} is missing"
    reason = first["msg"].removeprefix("Value error, ")
    if not key:  # what sections require of each other: the reason names the keys itself
        return reason
    if first["type"] in ("model_type", "model_attributes_type"):
        reason = "a section is expected, keys with their values below it"
    value = "" if isinstance(first["input"], dict | Section) else f" = {shown(first['input'])}"
    return f"{key}{value}: {reason[0].lower()}{reason[1:]}{_right_value(first)}"


def shown(value: Any) -> str:
    """A wrong value as Python writes it, shortened: a file may hold anything."""
    if isinstance(value, int) and value.bit_length() > 4 * SHOWN_CHARACTERS:
        return f"a number of {value.bit_length()} bits"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = SHOWN_CHARACTERS
    short.maxlist = short.maxdict = 10
    short.maxlevel = 2
    return " ".join(short.repr(value).split())


def did_you_mean(word: str, words: Iterable[str], written: Callable[[str], str] = str) -> str:
    """`; did you mean …?` with the likeliest of `words` as `written`; empty if none is like `word`."""
    by_lower = {one.lower(): one for one in words}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {written(by_lower[close[0]])}?" if close else ""


def _right_value(problem: Any) -> str:
    """What was probably meant by a value of the wrong type or a misspelt word; empty if nothing is likely."""
    kind, value = problem["type"], problem["input"]
    if kind == "literal_error" and isinstance(value, str):
        return did_you_mean(value, str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", "))
    if kind == "list_type" and isinstance(value, str | int):
        return f"; did you mean [{value}]?" if len(str(value)) <= SHOWN_CHARACTERS else ""
    if kind == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return f"; did you mean {int(value)}?"
    if kind in ("int_type", "float_type", "bool_type") and isinstance(value, str):
        return _unquoted(kind, value.strip())
    return ""


def _unquoted(kind: str, text: str) -> str:
    """The number, truth value or null that a text spells."""
    if text.lower() in ("null", "none", "nil", "~"):
        return "; did you mean null?"
    if kind == "bool_type":
        meant = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
        return f"; did you mean {meant[text.lower()]}?" if text.lower() in meant else ""
    try:
        (int if kind == "int_type" else float)(text)
    except ValueError:
        return ""
    return f"; did you mean {text}, without quotes?"
