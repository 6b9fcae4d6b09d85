"""Claims: the object that a caller holds, the lease behind it, and its renewal."""
