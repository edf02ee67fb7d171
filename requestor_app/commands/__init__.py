"""``flask --app wsgi_requestor orders|doctor|openapi``. A running service loads none of this."""
