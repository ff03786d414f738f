"""Everything that needs Ray, and the command line."""
