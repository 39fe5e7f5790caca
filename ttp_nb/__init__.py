"""Test-time personalization of human pose. Begin with `from ttp_nb import personalize; help(personalize)`."""
__version__ = "0.1.0"

import sys

from ttp_nb import help_texts

sys.modules[__name__].__class__ = help_texts.Package   # documents its modules when they are imported; see its page
help_texts.document(help_texts)
