"""Independent models that score a wave; each is imported from its own module and loads its model when first used."""
