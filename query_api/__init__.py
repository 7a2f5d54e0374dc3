"""The read side over HTTP: read models out."""
