"""The rivals: what else one could build or take for the same work, written as well as we can."""
