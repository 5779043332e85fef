"""Write the model card of a slide model, with its plots and their data."""
