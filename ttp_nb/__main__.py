"""`python -m ttp_nb` is the `ttp` command."""
import sys

from ttp_nb.cli import main

if __name__ == '__main__':
    sys.exit(main())
