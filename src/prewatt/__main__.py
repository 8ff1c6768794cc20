"""`python -m prewatt` is `prewatt`."""

import sys

from prewatt.cli import main

sys.exit(main())
