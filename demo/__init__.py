"""The tour of `python dev.py demo`: buyer and sellers, who talk to both services by REST alone."""
