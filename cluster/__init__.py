"""Everything that needs Ray, and the command line: who computes what, and what people see of it."""

from .environment import settle

settle()
