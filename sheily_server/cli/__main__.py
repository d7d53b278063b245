"""`python -m sheily_server.cli`: the command `sheily`, where its script is not at hand."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
