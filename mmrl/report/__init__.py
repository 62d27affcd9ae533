"""From a run folder to `report.json` and `report.html`: what the run did to the model, on one page that needs nothing.

run_folder.py   reads what the run left (and says what is missing)
summary.py      the numbers: report.json
picks.py        a few groups worth reading
pictures.py, curves.py, page.py   the page: pictures as data URIs, curves as SVG, text escaped
build.py        writes both
"""
