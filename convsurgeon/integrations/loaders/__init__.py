"""Loading a checkpoint through the library that its model belongs to, and hearing what it hides.

Libraries fill in what a file lacks and leave in the file what they do not know, and say so in a log
or not at all. Here all of it is a complaint.
"""

from convsurgeon.integrations.loaders.loaded import Loaded
from convsurgeon.integrations.loaders.same import differences
from convsurgeon.integrations.loaders.through import LOADERS, load_through

__all__ = ["LOADERS", "Loaded", "differences", "load_through"]
