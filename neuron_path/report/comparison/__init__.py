"""The tables of a comparison, for people: the same text cells as Markdown, LaTeX, HTML and on the console.

- ``sections``   the tables, made once from the numbers; what follows only prints them
- ``sentences``  what the comparison shows, in words
- ``latex``, ``page``, ``markdown``, ``console``  one way to print each
- ``files``      everything that a comparison leaves on disk
"""
