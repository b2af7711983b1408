"""The page of ``fscs app``: mark, ask, correct, examine, and take the result along.

The way of the data: ``guard`` lets a request in, the ``*_routes`` read it with what ``handling`` shares, ``workspace``
keeps on disk what it said, ``asker`` asks the model and writes answers, ``events`` tells every open page. The editor
needs ``outlining``, ``views``, ``marked`` and ``runlengths``; ``takeaway`` is what leaves, ``ml_backend`` what Label
Studio asks. ``server`` puts it together, ``static`` is the page.
"""
