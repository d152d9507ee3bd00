"""The command `mfr` as `python -m mfrbook`."""

import sys

from mfrbook.command.cli import main

sys.exit(main())
