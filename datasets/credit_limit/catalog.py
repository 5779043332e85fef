"""The tables of households and cardholders: each name that a config may use, and the module with its TABLE, read and
sample."""

SOURCES = {
    "county": "datasets.credit_limit.county.reader",
    "taiwan": "datasets.credit_limit.taiwan",
    "give_me_some_credit": "datasets.credit_limit.give_me_some_credit",
    "heloc": "datasets.credit_limit.heloc",
    "german": "datasets.credit_limit.german",
    "vub": "datasets.credit_limit.vub",
}
