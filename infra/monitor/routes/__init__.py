"""The interface below `/api`, a module a subject: what anybody on this machine may read, and beside it what a token unlocks."""
