"""What the operator pages of both services share: their look, their script, their rules of safety, and their polls."""
