"""`python -m xaimaps`."""

from xaimaps.cli import main

main()
