"""The demo's own parts: a Postgres and a broker in a folder, a site beside them, and the count at the end."""
