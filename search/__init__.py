"""Searches for the setting of a method, scenarios, results, tables, figures, and `heal`."""
