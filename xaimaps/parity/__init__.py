"""Do all frameworks agree on a model, and if not, where do they part?"""

from xaimaps.parity.comparing import compare, promised
from xaimaps.parity.measures import Measures, Tolerance
from xaimaps.parity.report import Report, Row
from xaimaps.parity.routes import routes

__all__ = ["Measures", "Report", "Row", "Tolerance", "compare", "promised", "routes"]
