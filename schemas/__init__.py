"""
The language that every part speaks: commands, events, views, and what can go wrong. Pure, no I/O.

What a domain imports stands here: `Command`, `Event`, `Notice`, `View`, `Personal`, `upcast`, `Rejection`.
"""

from schemas.errors import Rejection
from schemas.messages import Command, Event, Message, Notice, Personal, View
from schemas.upcasting import upcast

__all__ = ["Command", "Event", "Message", "Notice", "Personal", "Rejection", "View", "upcast"]
