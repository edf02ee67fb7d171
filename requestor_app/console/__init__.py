"""The requestor's operator page."""
