"""The page, the JSON API, the metrics and the live stream.  Imports no slice: it asks a `Backend`."""
