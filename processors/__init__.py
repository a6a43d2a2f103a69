"""Pure functions over records, run by the loop. Empty until the first lands; see README.md."""
