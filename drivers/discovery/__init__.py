"""What is connected to this machine: found by looking and by reading, never by writing a setting."""
