"""Keys of what sources list: an identity that stays when a document is broken.

A key has to be the same whichever way a document was parsed, and whatever a publisher
adds to a link.
"""

from __future__ import annotations

from ._address import canonical_url
from ._digest import storable
from ._identity import Alias, Identity, identity
from ._recipes import Fields, Recipe, RecipeName, recipe_name

__all__ = [
    "Alias",
    "Fields",
    "Identity",
    "Recipe",
    "RecipeName",
    "canonical_url",
    "identity",
    "recipe_name",
    "storable",
]
