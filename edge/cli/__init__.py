"""The command line: a file per verb, imported only when that verb is used."""
