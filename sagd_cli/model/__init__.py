"""The network, its averages, its classes and its learned filter, which runs, samplers and trainings share."""
