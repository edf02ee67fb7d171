"""The processor's operator page."""
