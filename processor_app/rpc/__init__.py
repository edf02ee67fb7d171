"""The processor's gRPC edge: checks what comes in, turns it into the domain's values, and back."""
