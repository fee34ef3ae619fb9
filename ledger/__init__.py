"""Job Ledger's log: facts, rules, and the append-only file that holds them."""

from ledger.events import Recorded
from ledger.ledger import Ledger
from ledger.state import State

__all__ = ["Ledger", "Recorded", "State"]
