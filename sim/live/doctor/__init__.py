"""Every step of the pattern checked against a target, each finding with its remedy. Imported by the commands only."""
