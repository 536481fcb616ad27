"""The store: what a run leaves on disk, and how it is read back.

One run directory holds one table of neuron paths, one row per image and method, joined by ``sample_id`` and never by
position:

    parts/part-00000-000000.parquet …   what each process has found so far, each file whole or absent
    parts/evaluation-…, evidence-…      the same of what is measured of the paths, and of what neurons answer to
    parts/skipped-00000-000001.json …   the images that could not be read
    skipped.json                        these images after the merge, where there are any, with the reason
    set_aside/                          what lay there and did not belong there: torn files, parts of another search
    paths.parquet                       all rows in the order of the data, once every image is there
    effects.parquet                     what editing those paths did to each image's prediction
    run.json, metrics.json              what made the numbers, and what they are in short
    SHA256SUMS                          the checksums of these files, as sha256sum --check reads them

- ``schema``      the one owner of column names and types
- ``layout``      the one owner of file names, and the opening of a fresh run directory
- ``atomic``      whole-or-absent files (everything that writes goes through it)
- ``jsonable``    values as strict JSON
- ``parquet``     one Parquet file with its provenance
- ``writer``      parts as batches finish, then the merged table
- ``merge``       coverage check and merge
- ``evaluation``  what is measured, image by image, and the two tables made of it
- ``evidence``    what neurons answer to
- ``reader``      tables as data frames
- ``provenance``  what made these numbers
- ``identity``    which of that makes two runs the same search, and how two differ
- ``recovery``    a run directory taken up again: what is done there, and what does not belong there
- ``skipped``     the images that could not be read
- ``lock``        one search at a time
- ``checksums``   whether a finished run's files are as they were written

Nothing here imports torch, so a report is made where only the store is.
"""
