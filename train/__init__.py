"""Training on Ray, recorded by `recorder`; this package may import `recorder`, never the other way round."""
