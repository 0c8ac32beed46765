"""One module per `workbench` command: its arguments, its call, its table."""
