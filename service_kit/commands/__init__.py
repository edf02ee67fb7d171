"""What the command lines of both services share: printing, the group of calls, and the parts of ``doctor``."""
