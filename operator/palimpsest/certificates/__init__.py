"""The admission webhook's certificates: `rotation.py` decides (pure), `issue.py` makes them."""
