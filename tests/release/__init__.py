"""What a release must fulfil.

The session ``release`` runs ``python -m tests.release check FOLDER``, and the session
``package`` the part that builds and uses the wheel, ``package FOLDER``. All but the
installation and the audit does without a network.
"""
