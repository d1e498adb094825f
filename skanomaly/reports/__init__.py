"""What is handed to people: pages of what was found, which take back decisions; cards of models.

`skanomaly.metrics.evaluate` is about figures; what belongs here shows images to people, and takes
back what they say of them.
"""

from ._decisions import load_decisions
from ._inspection import inspection_report
from ._model_card import model_card
from ._result import InspectionReport

__all__ = ["InspectionReport", "inspection_report", "load_decisions", "model_card"]
