"""Networks and pure loss functions: what an agent is, whoever runs it."""
