"""Everything that needs Ray, and the command line."""

from .environment import settle

settle()
