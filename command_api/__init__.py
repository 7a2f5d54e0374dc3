"""The write side: requests in, events out. A domain's rules import `Decider` and `Workflow` from here."""

from command_api.decider import Context, Decider, States, To
from command_api.workflow import Outcome, Read, Schedule, Send, Unschedule, Workflow, on

__all__ = [
    "Context",
    "Decider",
    "Outcome",
    "Read",
    "Schedule",
    "Send",
    "States",
    "To",
    "Unschedule",
    "Workflow",
    "on",
]
