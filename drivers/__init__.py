"""Values in, levels out: one file per device family or file format."""
