"""What goes wrong between and inside processes, on demand: networks, poolers, servers, signals."""
