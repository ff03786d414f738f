"""Everything that needs Ray, and the command line: who computes what a sweep wants, and what people see of it."""

from .environment import settle

settle()
