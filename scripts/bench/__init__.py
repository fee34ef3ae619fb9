"""How fast the house is: each promise of the design, measured beside a plain baseline in the same run."""
