"""Item text and co-visitation -> vectors -> residual codes -> unique, spelled semantic ids."""
