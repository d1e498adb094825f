"""Reports for those who look at images: a page of all that a detector found, and what they decide.

`skanomaly.metrics.evaluate` is about figures; what belongs here shows images to people, and takes
back what they say of them.
"""

from ._decisions import load_decisions
from ._inspection import inspection_report
from ._result import InspectionReport

__all__ = ["InspectionReport", "inspection_report", "load_decisions"]
