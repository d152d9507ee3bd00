"""The command `mfr` as `python -m mfrbook`."""

import sys

from mfrbook.book.cli import main

sys.exit(main())
