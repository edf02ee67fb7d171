"""The store: its contract (`contract`) and its engines."""
