"""The seller side: works on orders, tells the sellers, takes their answers and sends every step back."""

import os

# gRPC reads it when it is imported. Else it writes a line of its own for each connection that fails, and whoever
# reaches the port could fill the log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
