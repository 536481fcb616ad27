"""The report as one HTML page that needs no network: its data, its template, its style and its script.

- ``packing``   arrays as base64 text, which the script takes back
- ``explorer``  the paths of a run, image by image
- ``evidence``  what neurons answer to, and pictures of images
- ``figures``   figures with the data behind them
- ``facts``     what was run
- ``render``    the template filled in

``report.js`` draws with plotly.js, whose cartesian bundle lies in ``vendor``.
"""
