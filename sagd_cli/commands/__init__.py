"""One module a sub-command: read options, call one function below, render. No mathematics, no loops over data."""
