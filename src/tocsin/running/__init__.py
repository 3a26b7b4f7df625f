"""One run from its due time to its confirmed outcome: schedule, permits, runner, confirmation, causes, heartbeat."""

from tocsin.running.active import ActiveProbe
from tocsin.running.clock import SystemClock
from tocsin.running.control_memory import ControlMemory
from tocsin.running.controls import Controls
from tocsin.running.heartbeat import Heartbeat, Watchdog
from tocsin.running.permits import PermitPool
from tocsin.running.recorder import Recorder
from tocsin.running.runner import Runner
from tocsin.running.scheduler import Changes, Scheduler
from tocsin.running.workers import install_workers

__all__ = [
    "ActiveProbe",
    "Changes",
    "ControlMemory",
    "Controls",
    "Heartbeat",
    "PermitPool",
    "Recorder",
    "Runner",
    "Scheduler",
    "SystemClock",
    "Watchdog",
    "install_workers",
]
