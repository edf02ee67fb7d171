"""How what a buyer sends reaches the sellers: the directory, the deliveries and the channels."""
