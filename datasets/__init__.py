"""Images and what poisons them: sources, triggers, poisoning, views."""
