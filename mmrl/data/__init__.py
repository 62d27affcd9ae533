"""From files to samples: manifests, pictures, and the recipes that build a data set."""
