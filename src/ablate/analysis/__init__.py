"""From a sweep's records to the comparison: variants, differences, intervals, columns."""
