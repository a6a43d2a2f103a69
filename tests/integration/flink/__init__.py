"""Tests on the features' stack. It is stopped after them: its JVMs would slow all that comes later."""
