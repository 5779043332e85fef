"""The tables of households and cardholders: a name that a config may use, and the module that declares, reads and
samples it."""

SOURCES = {
    "county": "datasets.credit_limit.county.schema",
    "taiwan": "datasets.credit_limit.taiwan",
    "give_me_some_credit": "datasets.credit_limit.give_me_some_credit",
    "heloc": "datasets.credit_limit.heloc",
    "german": "datasets.credit_limit.german",
    "vub": "datasets.credit_limit.vub",
}
