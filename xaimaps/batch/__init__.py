"""Explain a data set of any size, into a store that a killed run leaves whole.

from xaimaps import batch
batch.run("default", "photos", "maps", ["saliency", "grad_cam"])
batch.read("maps").to_table(columns=["picture", "method", "explained", "score"])
"""

from xaimaps.batch._chunks import Shard
from xaimaps.batch._run import Summary, run
from xaimaps.batch._settings import Settings
from xaimaps.batch._store import read

__all__ = ["Settings", "Shard", "Summary", "read", "run"]
