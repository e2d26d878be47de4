"""`python -m transformer`, the same as the console script `transformer`."""

import sys

from transformer.cli import main

sys.exit(main())
