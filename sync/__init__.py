"""All that crosses the wire, and the upstream side."""
