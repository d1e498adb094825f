"""``python -m skanomaly``, the same as the command ``skanomaly``."""

import sys

from .cli import main

sys.exit(main())
