"""The paper's pruning protocol: neurons masked at random in a whole model, but those on the paths of each class.

- ``masks``    the path of a class, the masks, and a masked model's predictions
- ``measure``  a run measured under masks
- ``summary``  means with intervals, and the paper's numbers
- ``figure``, ``page``  what is drawn and written of these
"""
