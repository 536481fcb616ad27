"""Data sets that give images with stable ids: the embedded digits and folders of images."""
