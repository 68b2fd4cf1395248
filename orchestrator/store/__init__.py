"""Job stores: where bundles, bodies, values, files and logs live."""
