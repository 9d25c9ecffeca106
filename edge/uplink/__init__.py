"""Delivery: what is still to be sent, sending it, and believing only what the sink holds."""
