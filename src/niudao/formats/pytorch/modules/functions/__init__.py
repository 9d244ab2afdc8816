"""Functions that torch lacks, each self-contained: it imports only torch and math, so its text can stand in a written model."""
