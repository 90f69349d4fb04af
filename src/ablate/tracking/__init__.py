"""What is recorded about trials, on disk first and then in MLflow."""
