"""The report of a run as one HTML page that needs no network: its data, its template, its style and its script.

- ``run``       what a finished run holds, read once
- ``drawings``  the figures that this is enough for; ``gallery`` keeps them in the run's folder
- ``headline``  the effects as a table and in sentences
- ``packing``   arrays as base64 text, which the script takes back
- ``explorer``  the paths of a run, image by image
- ``evidence``  what neurons answer to, and pictures of images
- ``figures``   figures with the data behind them
- ``facts``     what was run
- ``render``    the template filled in
- ``page``      all of it: ``write_report``

``report.js`` draws with plotly.js, whose cartesian bundle lies in ``vendor``.
"""
