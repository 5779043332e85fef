"""The tables of technology companies: each name that a config may use, and the module with its TABLE, read and
sample.
"""

SOURCES = {
    "register": "datasets.scitech_risk.register.reader",
    "sba": "datasets.scitech_risk.sba",
    "sba_case": "datasets.scitech_risk.sba_case",
    "polish": "datasets.scitech_risk.polish",
    "us": "datasets.scitech_risk.us",
}
