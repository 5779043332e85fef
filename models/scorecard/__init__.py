"""Points, reasons and ledgers shared by the lending products."""
