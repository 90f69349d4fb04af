"""What is odd in a data set as a whole: copies, leaks between splits, recordings, labels that disagree."""
