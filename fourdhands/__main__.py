"""`python -m fourdhands` is the `fourdhands` command."""

import sys

from fourdhands.cli.main import main

sys.exit(main())
