"""Schema histories: one line and one version table a module, edge (SQLite) and upstream (Postgres) apart."""
