"""The engine of a store: from operations to batches, in one direction.

``Dispatcher`` (a verb's operations: cache or batch) → ``Batcher`` (queue and group
commit) → ``Executor`` (one batch) → the backend. ``Lifecycle`` opens, guards and closes
the backend, ``Maintenance`` runs beside the calls, and ``detached`` states which calls
complete although their caller is cancelled.
"""
