"""`python -m plateline.cli` is the command, where `plateline` itself is not on the path."""

import sys

from plateline.cli import main

if __name__ == "__main__":
    sys.exit(main())
