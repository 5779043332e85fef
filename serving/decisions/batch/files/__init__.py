"""The uploaded file of a batch: its formats, and the confined process that reads them."""
