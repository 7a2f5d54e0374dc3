"""
How often Python looks for garbage that refers to itself: seldom, in processes that make objects by the million.

Nearly everything is freed by reference counts alone. A page of the log is some hundred thousand objects that live for
a moment; at Python's own settings, walking over them again and again took a third of a projector's time.
"""

import gc

THRESHOLDS = (100_000, 50, 100)
"""So many more objects made than freed before the young ones are looked at; so often, before the older ones are."""


def collect_seldom() -> None:
    """Take what there is now as permanent, and look for garbage seldom from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
