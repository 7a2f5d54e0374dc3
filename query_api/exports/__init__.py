"""
Whole lists as files: every item that matches, page after page, as CSV or Parquet, without ever being in memory whole.
"""
