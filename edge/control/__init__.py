"""Control: deciding what the outputs do, and remembering what must survive a restart."""
