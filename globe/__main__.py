import sys

from globe.cli import main

sys.exit(main())
