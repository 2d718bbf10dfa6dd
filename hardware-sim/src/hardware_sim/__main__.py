"""`python -m hardware_sim`: the same as `weinao-sim`."""

import sys

from hardware_sim.cli import main

sys.exit(main())
