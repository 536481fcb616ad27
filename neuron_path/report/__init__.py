"""The last stage: figures and pages, drawn from plain numbers and tables, without torch or a model.

- ``run_page``    the report of a run, one page
- ``comparison``  the tables of a comparison
- ``classes``     what `neuron-path analyze` leaves
- ``pruning``     the page of a pruned model
- ``figures``     one function for each figure
- ``cells``, ``effects``, ``markdown``, ``text``, ``style``   numbers, words and looks that these share
"""
