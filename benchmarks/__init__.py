"""How fast the store is, beside what one would use without it."""
