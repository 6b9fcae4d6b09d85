"""One module per database. Importing one imports its driver."""
