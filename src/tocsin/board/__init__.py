"""What is known now and what happened: entries, history, transitions, the SQLite store."""

from tocsin.board.board import Board
from tocsin.board.claim import InUse, claimed
from tocsin.board.database import Retention
from tocsin.board.history import Evidence, RunRecord
from tocsin.board.store import Pace, Store, StoreCondition

__all__ = ["Board", "Evidence", "InUse", "Pace", "Retention", "RunRecord", "Store", "StoreCondition", "claimed"]
