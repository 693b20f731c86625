"""Named settings: YAML files beside this module, read into the frozen model of `model.py`."""

from components.recipes.loader import load_recipe, recipe_names
from components.recipes.model import Recipe

__all__ = ["Recipe", "load_recipe", "recipe_names"]
