"""Two aligned text files, a sentence a line."""

from collections.abc import Iterator
from itertools import zip_longest

from transformer.data.prepare.readers.files import Pair, PartFiles, read_lines


def read_line_pairs(files: PartFiles) -> Iterator[Pair]:
    """Line n of the source file with line n of the target file.

    Raises:
        DataError: the files differ in their number of lines, or as in `read_lines`.
    """
    sources, targets = read_lines(files.source), read_lines(files.target)
    skips = files.part.blank_lines == "skip"
    for number, (source, target) in enumerate(zip_longest(sources, targets), 1):
        if source is None or target is None:
            missing = "source" if source is None else "target"
            longer = number + sum(1 for _ in (targets if source is None else sources))
            counts = (number - 1, longer) if source is None else (longer, number - 1)
            raise files.source.malformed(
                f"it has {counts[0]} lines and {files.target.name} has {counts[1]}: pair {number} has no {missing}"
            )
        if skips and not (source.strip() or target.strip()):
            files.left_out["blank_line"] += 1
        else:
            yield Pair(source, target, files.part.name)
