"""Read files of the project and beside it: configuration, data that is not shipped, text in UTF-8."""
