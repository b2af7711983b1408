"""What is raised and warned of photos and masks."""


class ImageError(ValueError):
    """The content of a photo or mask cannot be used; the message names the thing and the cure."""


class ImageWarning(UserWarning):
    """A photo or mask is used, but may not say what was meant; the message names the thing and what is odd in it."""
