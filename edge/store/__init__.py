"""The local database: open, write(), read(), and everything that lives in it."""
