"""``flask --app wsgi_processor sellers|deliveries|doctor|openapi``. A running service loads none of this."""
