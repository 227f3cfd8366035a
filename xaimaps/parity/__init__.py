"""Compare a model between frameworks, and find where they diverge."""

from xaimaps.parity._compare import compare, promised
from xaimaps.parity._measures import Measures, Tolerance
from xaimaps.parity._report import Report, Row
from xaimaps.parity._routes import routes

__all__ = ["Measures", "Report", "Row", "Tolerance", "compare", "promised", "routes"]
