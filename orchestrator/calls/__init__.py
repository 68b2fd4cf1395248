"""The call cache: values of earlier calls, found by what the call is. The truth is in the logs; the index is a copy."""
