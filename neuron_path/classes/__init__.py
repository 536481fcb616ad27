"""What the paths of a stored run say about classes.

- ``class_paths`` paths in classes: the record that everything starts from
- ``grouping``    that record from the table of a stored run
- ``usage``       how often each class uses each neuron, and how concentrated that is
- ``pairs``       the path overlap of every two images, a few rows at a time
- ``overlap``     within-class against between-class overlap, with a permutation test
- ``similarity``  cosine similarity of classes; nearest, farthest, most and least similar
- ``clustering``  classes and images put in trees, and agreement with known labels
- ``stability``   what halving the images does to all this
- ``analysis``    all of it at once
- ``neurons``     the classes whose paths a neuron is on
- ``images``      how an image's path differs from its class's
- ``distances``   semantic distances between classes, from a file or WordNet
- ``methods``     two methods or models side by side
- ``runs``        every method of several runs, on the images that all have
- ``tables``      all of this as tables

It works on a table or arrays and never runs a model, so nothing here imports torch. Shape letters: n images, C classes,
L blocks, F neurons of a block, k path neurons a block. Nothing depends on the order of the rows, and the same seed
gives the same digits.
"""
