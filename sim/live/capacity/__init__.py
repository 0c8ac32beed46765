"""What this machine can open and measure, and what a size needs. Imported by the commands and `live.doctor`."""
