"""The tables of technology companies: a name that a config may use, and the module that declares, reads and samples
it."""

SOURCES = {
    "register": "datasets.scitech_risk.register",
    "sba": "datasets.scitech_risk.sba",
    "polish": "datasets.scitech_risk.polish",
}
