"""Joints of the person in a video, by a network that personalises itself to them without labels.

    from ttp_nb import personalize
    found = personalize('my.mp4')      # help(personalize) says what it takes
    print(found.verdict)               # whether to rely on it; help(found) says what else there is
    found.save('output/my')            # joints, a video, a report

`ttp personalize my.mp4` does the same, and `ttp --help` names the other commands. Each module below is one page of the
notebooks; help('ttp_nb.clips') says what is in ttp_nb.clips, and every function what its parameters are.
"""
__version__ = "0.1.0"

import sys
import typing

from ttp_nb import help_texts

if typing.TYPE_CHECKING:   # for editors; in earnest `Package` imports them when they are asked for
    from ttp_nb.basics import TTPError as TTPError
    from ttp_nb.one_call import PersonalizedVideo as PersonalizedVideo, personalize as personalize
    from ttp_nb.streams import personalize_stream as personalize_stream
    from ttp_nb.video import UnusableInput as UnusableInput

sys.modules[__name__].__class__ = help_texts.Package   # documents its modules when they are imported; see its page
help_texts.document(help_texts)
