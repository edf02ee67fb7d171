"""A story told by the two services: sellers, orders, notes and answers. ``python dev.py demo`` tells it."""
