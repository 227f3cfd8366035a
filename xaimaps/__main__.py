"""`python -m xaimaps`."""

from xaimaps._cli import start

start()
