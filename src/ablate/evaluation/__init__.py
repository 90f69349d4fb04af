"""Average precision from stored predictions, and its bootstrap over images. No torch."""
