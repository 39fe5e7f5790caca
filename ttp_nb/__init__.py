"""Test-time personalization of human pose. Begin with `from ttp_nb import personalize; help(personalize)`."""
__version__ = "0.1.0"

import sys
from typing import TYPE_CHECKING

from ttp_nb import help_texts

if TYPE_CHECKING:   # for editors; in earnest `Package` imports them when they are asked for
    from ttp_nb.basics import TTPError as TTPError
    from ttp_nb.one_call import personalize as personalize
    from ttp_nb.streams import personalize_stream as personalize_stream

sys.modules[__name__].__class__ = help_texts.Package   # documents its modules when they are imported; see its page
help_texts.document(help_texts)
