"""`tidewatt doctor`: looks at everything that a site stands on, and changes none of it."""
