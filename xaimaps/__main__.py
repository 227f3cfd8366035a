"""`python -m xaimaps`."""

from xaimaps._cli import main

main()
