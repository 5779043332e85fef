"""The tables of technology companies: a name that a config may use, and the module that declares, reads and samples
it."""

SOURCES = {
    "register": "datasets.scitech_risk.register.schema",
    "sba": "datasets.scitech_risk.sba",
    "sba_case": "datasets.scitech_risk.sba_case",
    "polish": "datasets.scitech_risk.polish",
}
