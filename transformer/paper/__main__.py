"""`python -m transformer.paper`, at the repository's root: write docs/paper.md again."""

from pathlib import Path

from transformer.files import write_text
from transformer.paper.document import DOCUMENT, document

if __name__ == "__main__":
    write_text(DOCUMENT, document(Path()))
