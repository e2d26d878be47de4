"""New pieces for a vocabulary that is given: its byte-pair merging goes on where it had stopped, on other text.

Every new piece joins two pieces that are there, and merges after all old ones, so that a text in which no new piece
occurs is split as before, and the ids of old pieces stay.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from unicodedata import category

from transformer.errors import DataError
from transformer.tokens.vocabulary import SPACE, Vocabulary, parsed

Symbols = list[str]  # a word's pieces
NO_PIECE = ""  # stands for a character that is spelled in bytes; nothing is joined with it
NORMAL, BPE = 1, 2  # SentencePiece's numbers


def extended(vocabulary: Vocabulary, words: Iterable[tuple[str, int]], count: int, coverage: float) -> Vocabulary:
    """The vocabulary with `count` more pieces, learned from words, cut at white space, and how often each occurs.

    Characters without a piece come first, the frequent ones, until `coverage` of all characters have one; then pairs
    of pieces, always the one that occurs most.

    Raises:
        DataError: it is no byte-pair vocabulary, or the words do not hold as many new pieces.
    """
    model = parsed(vocabulary.model)
    if model.trainer_spec.model_type != BPE:
        raise DataError("tokenization.new_pieces: only a byte-pair vocabulary can be added to, and this is none")
    counts = Counter({f"{SPACE}{word}": number for word, number in words})
    known = {piece.piece for piece in model.pieces if len(piece.piece) == 1}
    characters = _new_characters(counts, known, coverage)[:count]
    split = {word: _symbols(vocabulary, word, known, set(characters)) for word in counts}
    new = characters + _merged(split, counts, {one.piece for one in model.pieces}, count - len(characters))
    if len(new) < count:
        raise DataError(
            f"tokenization.new_pieces = {count}: the training split gives no more than {len(new)} that occur twice; "
            "lower it, or train on more text"
        )
    lowest = min(piece.score for piece in model.pieces)
    for place, piece in enumerate(new, 1):
        model.pieces.add(piece=piece, score=lowest - place, type=NORMAL)
    model.trainer_spec.vocab_size = len(model.pieces)
    return Vocabulary(model.SerializeToString())


def _new_characters(counts: Counter[str], known: set[str], coverage: float) -> list[str]:
    """Those without a piece, the most frequent first, that it takes to cover this share of all characters."""
    found: Counter[str] = Counter()
    for word, number in counts.items():
        for character in word:
            found[character] += number
    total, covered = sum(found.values()), sum(number for one, number in found.items() if one in known)
    new = []
    for character, number in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        if character not in known and covered < coverage * total and character.isprintable():
            new.append(character)
            covered += number
    return new


def _symbols(vocabulary: Vocabulary, word: str, known: set[str], new: set[str]) -> Symbols:
    """The pieces of a word under the old vocabulary, characters that get a piece, and gaps where others are."""
    symbols: Symbols = []
    for run in re.findall(f"[{re.escape(''.join(known))}]+|.", word, flags=re.DOTALL):
        if run[0] in known:
            symbols += vocabulary.pieces(vocabulary.spell(run))
        else:
            symbols.append(run if run in new else NO_PIECE)
    return symbols


def _merged(split: dict[str, Symbols], counts: Counter[str], known: set[str], count: int) -> Symbols:
    """Up to `count` new pieces in the order in which they merge; `split` follows them."""
    pairs: Counter[str] = Counter()  # by the piece that it makes, as SentencePiece merges
    words_of: dict[str, set[str]] = defaultdict(set)

    def add(word: str, sign: int, changed: set[str]) -> None:
        for left, right in pairwise(split[word]):
            if left and right:
                pairs[left + right] += sign * counts[word]
                words_of[left + right].add(word)
                changed.add(left + right)

    changed: set[str] = set()
    for word in split:
        add(word, 1, changed)
    queue = [(-pairs[piece], piece) for piece in changed if piece not in known and _of_one_kind(piece)]
    heapq.heapify(queue)
    new: Symbols = []
    while len(new) < count and queue:
        number, piece = heapq.heappop(queue)
        if -number != pairs[piece]:  # it has changed since, and stands in the queue again
            continue
        if -number < 2:
            break
        changed = set()
        for word in words_of[piece]:
            add(word, -1, changed)
            split[word] = _joined(split[word], piece)
            add(word, 1, changed)
        new.append(piece)
        for one in changed - known - {*new}:
            if _of_one_kind(one):
                heapq.heappush(queue, (-pairs[one], one))
    return new


def _of_one_kind(piece: str) -> bool:
    """Letters alone, digits alone or neither, behind the space: as SentencePiece learns them."""
    kinds = {
        {"L": "letter", "M": "letter", "N": "digit"}.get(category(one)[0], "other") for one in piece.lstrip(SPACE)
    }
    return len(kinds) <= 1


def _joined(symbols: Symbols, piece: str) -> Symbols:
    """With every pair that makes `piece` as one, from left to right."""
    joined: Symbols = []
    for symbol in symbols:
        if joined and joined[-1] and symbol and joined[-1] + symbol == piece:
            joined[-1] = piece
        else:
            joined.append(symbol)
    return joined
