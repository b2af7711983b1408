"""The page of ``fscs app``: mark, ask, correct, examine, and take the result along.

The way of the data: ``guard`` lets a request in, ``routes`` reads it, ``workspace`` keeps on disk what it said,
``asker`` asks the model and writes answers, ``events`` tells every open page. ``outlining``, ``views`` and
``runlengths`` are what the editor needs, ``takeaway`` what leaves, ``label_studio`` another tool's door. ``static`` is
the page.
"""
