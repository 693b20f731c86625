"""Named training settings: YAML files in this folder, validated by the frozen models in `model.py`."""

from components.recipes.loader import Overrides, load_recipe, recipe_names
from components.recipes.model import Recipe

__all__ = ["Overrides", "Recipe", "load_recipe", "recipe_names"]
