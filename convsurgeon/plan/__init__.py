"""What will be done (plan) and what was done (recipe): frozen, printable values."""

from convsurgeon.plan.make import Contents, Shard, make_plan
from convsurgeon.plan.recipe import METADATA_KEY, Original, Recipe, recipe_of
from convsurgeon.plan.step import Step, chains, first_names
from convsurgeon.plan.value import Failure, FilePlan, LayerPlan, Plan, Verdict
from convsurgeon.plan.wish import Wish

__all__ = [
    "METADATA_KEY",
    "Contents",
    "Failure",
    "FilePlan",
    "LayerPlan",
    "Original",
    "Plan",
    "Recipe",
    "Shard",
    "Step",
    "Verdict",
    "Wish",
    "chains",
    "first_names",
    "make_plan",
    "recipe_of",
]
