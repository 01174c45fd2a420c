"""What an agent earned, what it knows, and a report that shows both."""
