"""`./millrace bench recommendation`: how well it ranks beside other methods, and what its index takes at millions of items."""
