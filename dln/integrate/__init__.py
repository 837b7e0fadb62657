"""How time passes: one method of integration per file, one loop over steps for all."""
