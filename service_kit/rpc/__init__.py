"""The gRPC side of the kit: the server component, channel options, and errors as status codes."""
