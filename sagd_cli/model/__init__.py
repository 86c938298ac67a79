"""What a run, a sampler and a training all hold: the network, its averages, its classes, its learned filter."""
