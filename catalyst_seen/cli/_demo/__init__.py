"""What ``demo`` is made of; ``worker`` is the program that it is about."""
