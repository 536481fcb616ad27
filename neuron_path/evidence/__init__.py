"""What neurons answer to: the images and patches that activate them most.

- ``choice``      which neurons are looked at: those on the paths, the most used first
- ``grid``        where in the image a patch token lies
- ``strongest``   one clean pass over the images, keeping each neuron's strongest
- ``maps``        where in an image the neurons on its own paths are active
- ``edges``       how the neurons on an image's path act on each other
- ``thumbnails``  what the model saw, as a small picture

`neuron_path.store.evidence` says what is stored of it.
"""
