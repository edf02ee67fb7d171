"""The Flask side of both services: reading requests, answering problems, documents, the app and its server."""
