"""What stands behind ``dev.py``. Like that file it needs Python alone, and starts on any since 3.7."""
