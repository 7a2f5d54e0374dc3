"""
The language of hospital supply: sites, items, stock by lot, orders, recalls.

Each module has one aggregate's commands and events; `views.py` has what queries answer, `rejections.py` the
rules' names. Events carry what pure folds need, so no fold has to look elsewhere.
"""
