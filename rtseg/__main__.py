"""``python -m rtseg``: the command line, where its script is not on the path."""

from __future__ import annotations

import sys

from rtseg.cli import main

sys.exit(main())
