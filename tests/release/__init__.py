"""What is given to others: built, looked at, and installed as they would."""
