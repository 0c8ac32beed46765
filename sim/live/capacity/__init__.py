"""What this machine can open and measure, and what a load needs. Imported by the commands and `live.doctor`."""
