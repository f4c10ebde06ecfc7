import sys

from globe.reproduce import main

sys.exit(main())
