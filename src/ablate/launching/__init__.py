"""Running many jobs in processes of their own. Nothing here knows what a job does."""
