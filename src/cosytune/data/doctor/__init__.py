"""The data doctor: what is wrong with a person's recordings, in numbers and in words. No torch.

`check_recordings` listens to every clip of a folder and decides on each; `make_exhibits` makes the worst ones playable.
The doctor knows no judges: a voice encoder and a recogniser are handed in (`Advisers`).
"""

from cosytune.data.doctor.checking import Advisers, check_recordings
from cosytune.data.doctor.exhibits import make_exhibits
from cosytune.data.doctor.listening import Recogniser
from cosytune.data.doctor.settings import Limits

__all__ = ["Advisers", "Limits", "Recogniser", "check_recordings", "make_exhibits"]
