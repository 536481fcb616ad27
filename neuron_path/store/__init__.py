"""The store: what a run leaves on disk, and how it is read back.

One run directory holds one table of neuron paths, one row per image and method, joined by ``sample_id`` and never by
position:

    parts/part-00000-000000.parquet …   what each process has finished so far, each file whole or absent
    paths.parquet                       all rows in the order of the data, once every image is there
    effects.parquet                     what editing those paths did to each image's prediction

- ``schema``      the one owner of column names and types
- ``layout``      the one owner of file names, and the opening of a fresh run directory
- ``atomic``      whole-or-absent files (everything that writes goes through it)
- ``jsonable``    values as strict JSON
- ``parquet``     one Parquet file with its provenance
- ``writer``      parts as batches finish, then the merged table
- ``merge``       coverage check and merge
- ``reader``      tables as data frames
- ``provenance``  what made these numbers

Nothing here imports torch, so a report is made where only the store is.
"""
