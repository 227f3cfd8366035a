"""Do all frameworks agree on a model, and if not, where do they part?"""

from xaimaps.parity.comparing import compare
from xaimaps.parity.measures import Measures, Tolerance
from xaimaps.parity.report import Report, Row

__all__ = ["Measures", "Report", "Row", "Tolerance", "compare"]
