"""The seller side: works on orders, tells the sellers, takes their answers and sends every step back."""
