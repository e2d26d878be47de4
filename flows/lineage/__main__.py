"""`python -m flows.lineage`."""

import sys

from flows.lineage.cli import main

sys.exit(main())
