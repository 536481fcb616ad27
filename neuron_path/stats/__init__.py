"""Statistics on plain numbers: they know nothing of paths, runs or models.

- ``intervals``     means with bootstrap intervals over images, and the jackknife's
- ``crossed``       means with intervals over seeds and images at once
- ``paired``        tests of two methods on the same images, and their correction for being many
- ``resampling``    the draws behind these
- ``mantel``        whether two matrices over the same classes go together
- ``permutation``   what images of a class have in common, when classes are shuffled
"""
