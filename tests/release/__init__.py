"""What a release must fulfil: ``nox -s release`` runs it, and ``nox -s package`` a part.

``python -m tests.release package FOLDER`` builds and uses the wheel, and ``check FOLDER``
checks a release. Everything but the audit does without a network.
"""
