"""What the commands that run load tests share: one run, the search for the knee, early abort, the outcome."""
