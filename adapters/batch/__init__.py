"""What all batch systems have in common: a member is a `Dialect`, and everything else is written once, here."""
