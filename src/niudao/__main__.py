"""`python -m niudao` is `niudao`."""

import sys

from niudao.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
